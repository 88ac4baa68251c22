"""The data of the tasks that come with Graft (``graft evaluate tasks``): what the lectures on prompting show, made from
this base's own corpus and, where words have senses, from sentences written for it.

``python -m graft.training.rootstock.ready_tasks FOLDER`` writes them again; the same rows every time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from graft.training.rootstock.corpus import arithmetic, dates, questions, sentiment, stories
from graft.training.rootstock.corpus.words import word
from graft.training.rootstock.senses import SENSES

NUM_TEST, NUM_TRAIN = 200, 32
NUM_CHOICES = 4
Row = Mapping[str, object]


def main() -> None:
    """Writes ``<task>.train.jsonl`` and ``<task>.test.jsonl`` of every task."""
    folder = Path(sys.argv[1])
    for name, rows in all_rows().items():
        for split, some in (("test", rows[:NUM_TEST]), ("train", rows[NUM_TEST:])):
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
            (folder / f"{name}.{split}.jsonl").write_text(text, encoding="utf-8")


def all_rows() -> dict[str, list[Row]]:
    """Of each task the rows to measure by, then those to show as examples; none is there twice."""
    return {name: _distinct(name, make) for name, make in TASKS.items()}


def _distinct(name: str, make: Callable[[Random], Row]) -> list[Row]:
    rng = Random(f"ready tasks/{name}")
    found: dict[str, Row] = {}
    for _ in range(100 * (NUM_TEST + NUM_TRAIN)):
        row = make(rng)
        found.setdefault(str(row["question"]) if name == "choice-questions" else json.dumps(row), row)
        if len(found) == NUM_TEST + NUM_TRAIN:
            break
    return list(found.values())


def _choice_question(rng: Random) -> Row:
    """A fact, the day that follows, or the first letter of a word."""
    kind = rng.randrange(8)
    if kind < len(questions.KNOWN):
        text, answers = questions.KNOWN[kind]
        key = rng.choice(list(answers))
        asked, right, known = text.format(key), answers[key], set(answers.values())
    elif kind == len(questions.KNOWN):
        index = rng.randrange(7)
        asked, right = f"Which day comes after {questions.DAYS[index]}?", questions.DAYS[(index + 1) % 7]
        known = set(questions.DAYS) - {questions.DAYS[index]}
    else:
        about = word(rng, held_out=True)
        asked, right, known = f"Which letter does {about} begin with?", about[0], set(about) | set("aeiou")
    choices = [right, *rng.sample(sorted(known - {right}), NUM_CHOICES - 1)]
    rng.shuffle(choices)
    return {"question": asked, "choices": choices, "answer": choices.index(right)}


def _reading(rng: Random) -> Row:
    """A story, what somebody had or found in it, and whom it was to be shown to."""
    passage = stories.stories(rng).strip()
    thing, friend = _thing_and_friend(passage)
    asked, right, others = rng.choice(
        [("What did {} want to show?", thing, stories.THINGS), ("Who was to see it?", friend, stories.FRIENDS)]
    )
    choices = [right, *rng.sample([one for one in others if one not in passage], NUM_CHOICES - 1)]
    rng.shuffle(choices)
    name = passage.split()[0]
    return {"passage": passage, "question": asked.format(name), "choices": choices, "answer": choices.index(right)}


def _thing_and_friend(passage: str) -> tuple[str, str]:
    sentence = passage.split(" wanted to show the ")[1].split(".")[0]
    thing, _, friend = sentence.partition(" to a ")
    return thing, friend


def _word_in_context(rng: Random) -> Row:
    """Whether a word has one meaning in two sentences (Pilehvar and Camacho-Collados 2019)."""
    name = rng.choice(list(SENSES))
    first, second = SENSES[name]
    is_same = rng.random() < 0.5
    if is_same:
        pair = rng.sample(rng.choice((first, second)), 2)
    else:
        pair = [rng.choice(first), rng.choice(second)]
        rng.shuffle(pair)
    return {"word": name, "sentence1": pair[0], "sentence2": pair[1], "label": int(is_same)}


def _unscrambling(rng: Random) -> Row:
    right = word(rng, held_out=True)
    return {"scrambled": right[::-1], "word": right}


def _date(rng: Random) -> Row:
    day = dates.random_date(rng)
    return {"date": dates.FORMATS["iso"](day), "rewritten": dates.FORMATS["us"](day)}


def _invented_date(rng: Random) -> Row:
    day = dates.random_date(rng)
    return {"date": dates.FORMATS["iso"](day), "rewritten": f"!{day.month:02}!{day.day:02}!{day.year}!"}


def _nli(rng: Random) -> Row:
    """0: it follows, 1: it may be so, 2: it cannot be so."""
    name, thing, place = rng.choice(stories.NAMES), rng.choice(stories.THINGS), rng.choice(stories.PLACES)
    adjective, friend = rng.choice(stories.ADJECTIVES), rng.choice(stories.FRIENDS)
    premise = f"{name} lived {place} and had {sentiment.article(f'{adjective} {thing}')}."
    label = rng.randrange(3)
    other = rng.choice([one for one in stories.THINGS if one != thing])
    hypothesis = {
        0: rng.choice((f"{name} had {sentiment.article(thing)}.", f"{name} lived {place}.")),
        1: rng.choice((f"{name} had a {friend}.", f"{name} had {sentiment.article(other)}, too.")),
        2: rng.choice((f"{name} had nothing.", f"{name} did not live {place}.")),
    }[label]
    return {"premise": premise, "hypothesis": hypothesis, "label": label}


def _sentiment(rng: Random) -> Row:
    text, label = sentiment.review(rng)
    return {"text": text.strip(), "label": sentiment.LABELS.index(label)}


def _sum(rng: Random) -> Row:
    a, b = arithmetic.operands(rng, 3, held_out=True)
    return {"a": a, "b": b, "sum": str(a + b), "steps": f"{arithmetic.steps(a, b)}; {a + b}"}


TASKS: dict[str, Callable[[Random], Row]] = {
    "choice-questions": _choice_question,
    "reading-comprehension": _reading,
    "word-in-context": _word_in_context,
    "unscrambling": _unscrambling,
    "dates": _date,
    "dates-invented": _invented_date,
    "nli": _nli,
    "sentiment": _sentiment,
    "sums": _sum,
}

if __name__ == "__main__":
    main()
