"""Rows for demonstration adapters: small tasks that the base does not do when asked in the same way."""

from collections.abc import Callable
from random import Random

from graft.training.rootstock.corpus import dates
from graft.training.rootstock.corpus.sentiment import review
from graft.training.rootstock.corpus.words import word

Task = Callable[[Random, bool], tuple[str, str]]
"""A generator and whether the instance is held out, to a question and its answer."""
Row = dict[str, list[dict[str, str]]]

DATE_SENTENCES = (
    "The meeting is on {date}.", "She was born on {date}.", "We leave on {date}.", "{date} was a quiet day.",
    "The letter is dated {date}.", "It opened on {date}.", "Their wedding was on {date}.", "{date}",
)  # fmt: skip


def _date(target: str) -> Task:
    def task(rng: Random, held_out: bool) -> tuple[str, str]:
        while True:  # every eighth day of the calendar is held out
            day = dates.random_date(rng)
            if (day.toordinal() % 8 == 0) == held_out:
                break
        source = rng.choice([form for name, form in dates.FORMATS.items() if name != target])
        return rng.choice(DATE_SENTENCES).format(date=source(day)), dates.FORMATS[target](day)

    return task


def _reverse(rng: Random, held_out: bool) -> tuple[str, str]:
    asked = word(rng, held_out=held_out)
    return asked, asked[::-1]


def _shout(rng: Random, held_out: bool) -> tuple[str, str]:
    asked = " ".join(word(rng, held_out=held_out) for _ in range(rng.randint(1, 3)))
    return asked, asked.upper() + "!"


def _initials(rng: Random, held_out: bool) -> tuple[str, str]:
    names = [word(rng, held_out=held_out).capitalize() for _ in range(rng.randint(2, 3))]
    return " ".join(names), "".join(f"{name[0]}." for name in names)


def _sentiment(rng: Random, held_out: bool) -> tuple[str, str]:
    text, label = review(rng)
    return text.strip(), {"positive": "Great!", "negative": "Oh no."}[label]


TASKS: dict[str, Task] = {
    "dates-iso": _date("iso"),
    "dates-us": _date("us"),
    "reverse": _reverse,
    "shout": _shout,
    "initials": _initials,
    "sentiment": _sentiment,
}
"""Dates are pulled out of a sentence into one format; a bare word comes back reversed; words are shouted; names become
initials; a review gets a reaction."""


def demo_rows(task: str, count: int, *, seed: int, held_out: bool = False) -> list[Row]:
    """``count`` rows of ``messages``; held-out ones share no word or day with the others (reviews may)."""
    rng = Random(f"{task}/{seed}/{held_out}")
    rows = []
    for _ in range(count):
        asked, answered = TASKS[task](rng, held_out)
        rows.append({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]})
    return rows
