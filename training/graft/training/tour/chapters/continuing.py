"""Lines `this -> that`, continued: what examples in the prompt teach, and what they do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from graft.training.rootstock.corpus import rules
from graft.training.rootstock.corpus.dates import FORMATS, random_date
from graft.training.rootstock.corpus.words import invented_word, words
from graft.training.tour.chapter import Chapter, Example
from graft.training.tour.claim import gains, share_is
from graft.training.tour.classroom import Classroom, Question
from graft.training.tour.figure import Marks, accuracy, gain

SHOTS = (0, 1, 2, 4, 8)
Pairs = Sequence[tuple[str, str]]
Draw = Callable[[Random], tuple[Pairs, tuple[str, str]]]
"""Examples, and the question with its answer."""


def program(pairs: Pairs, **more: object) -> dict[str, object]:
    """Examples, one a line, before the open line."""
    return {
        "prompt": "{{demonstrations}}\n{{text}} ->",
        "demonstrations": [{"inputs": {"text": text}, "output": output} for text, output in pairs],
        "decoding": {"max_tokens": 32, "stop": ["\n"], "temperature": 0.0},
        **more,
    }


def examples_in_the_prompt(room: Classroom) -> Chapter:
    """Zero-, one- and few-shot, over eighteen functions of a word."""
    marks: dict[int, Marks] = {}
    for count in SHOTS:
        runs = [[_rule_question(room, run, index, count) for index in range(room.per_run)] for run in _runs(room)]
        marks[count] = room.marks(runs, about=f"{count} examples")
    return Chapter(
        title="Zero, one and few examples",
        lecture="Examples in the prompt teach a task without a change of weights (Brown et al. 2020).",
        figures={f"shots_{count}": accuracy(marks[count]) for count in SHOTS},
        claims=(
            gains("One example is better than none.", marks[0], marks[1], seed=room.seed, above=0),
            gains("Eight examples are better than none.", marks[0], marks[8], seed=room.seed, above=0),
            gains("Eight examples are better than one.", marks[1], marks[8], seed=room.seed, above=0),
        ),
        examples=(room.example(_rule_question(room, 0, 0, 2)),),
        curve=tuple(f"shots_{count}" for count in SHOTS),
    )


def _rule_question(room: Classroom, run: int, index: int, count: int) -> Question:
    """The same eight examples and word for each count: of the eighteen functions in turn."""
    rng = Random(f"{room.seed}/shots/{run}/{index}")
    function = rules.RULES[(run * room.per_run + index) % len(rules.RULES)].draw(rng)
    *shown, asked = [*words(rng, max(SHOTS)), *words(rng, 1, held_out=True)]
    pairs = [(one, function(one)) for one in shown[:count]]
    return Question(program=program(pairs), variables={"text": asked}, right=function(asked))


def _affixed(rng: Random) -> tuple[Pairs, tuple[str, str]]:
    """A language whose words have an ending of its own."""
    function = next(rule for rule in rules.RULES if rule.name == "suffix").draw(rng)
    shown, (asked,) = words(rng, 4), words(rng, 1, held_out=True)
    return [(one, function(one)) for one in shown], (asked, function(asked))


def _looked_up(rng: Random) -> tuple[Pairs, tuple[str, str]]:
    """A word among those that the prompt translates."""
    pairs = [(one, invented_word(rng)) for one in words(rng, 4)]
    return pairs, rng.choice(pairs)


LEXICON = {"affixed": _affixed, "looked up": _looked_up}


def invented_lexicon(room: Classroom) -> Chapter:
    """`thanks -> merci` in a language that nobody speaks."""
    return _side_by_side(
        room,
        LEXICON,
        {
            "lexicon_formed": "Words of a language formed by one ending are translated.",
            "lexicon_looked_up": "A word that the prompt translates is looked up there.",
        },
        title="An invented lexicon",
        lecture="`thanks -> merci, hello ->`: the pattern of a translation is continued.",
    )


def _date_to(target: Callable[..., str]) -> Draw:
    def draw(rng: Random) -> tuple[Pairs, tuple[str, str]]:
        *shown, asked = [(FORMATS["iso"](day), target(day)) for day in (random_date(rng) for _ in range(5))]
        return shown, asked

    return draw


DATES = {
    "known": _date_to(FORMATS["us"]),
    "invented": _date_to(lambda day: f"!{day.month:02}!{day.day:02}!{day.year}!"),
}


def date_formats(room: Classroom) -> Chapter:
    """`2014-06-01 -> !06!01!2014!`, beside a format that the base was trained on."""
    return _side_by_side(
        room,
        DATES,
        {
            "dates_known": "Four examples show a date format that the base was trained on.",
            "dates_invented": "Four examples show a date format that nobody uses.",
        },
        title="Dates in an invented format",
        lecture="`2014-06-01 -> !06!01!2014!`: large models take up a format from a few examples.",
    )


def _scrambled(scramble: Callable[[str, Random], str]) -> Draw:
    def draw(rng: Random) -> tuple[Pairs, tuple[str, str]]:
        every = [*words(rng, 4), *words(rng, 1, held_out=True)]
        *shown, asked = [(scramble(one, rng), one) for one in every]
        return shown, asked

    return draw


def _shuffled(word: str, rng: Random) -> str:
    """First and last letter stay (A1 of Brown et al. 2020)."""
    inner = list(word[1:-1])
    rng.shuffle(inner)
    return word[0] + "".join(inner) + word[-1]


SCRAMBLES = {"reversed": _scrambled(lambda word, _: word[::-1]), "shuffled": _scrambled(_shuffled)}


def unscrambling(room: Classroom) -> Chapter:
    """Reversed words, and words whose inner letters are shuffled."""
    return _side_by_side(
        room,
        SCRAMBLES,
        {
            "unscrambled_reversed": "Reversed words are put right.",
            "unscrambled_shuffled": "Words with shuffled inner letters are put right.",
        },
        title="Unscrambling words",
        lecture="Letters are put back into order by examples of it (Brown et al. 2020, section 3.9.2).",
        remark="Three in four of the words are invented, and no model could know those once they are shuffled.",
    )


NEAR = {"long": "us", "iso": "british"}
"""Each source format has a target of its own, which only examples of the same kind show."""


def nearest_examples(room: Classroom) -> Chapter:
    """Examples chosen by BM25 against random ones, from a pool with two rules."""
    marks = {method: room.marks(_near_runs(room, method), about=method) for method in ("random", "bm25")}
    says = "The four nearest examples by BM25 are better than four at random."
    return Chapter(
        title="Which examples",
        lecture="Examples like the question help more than any others (Liu et al. 2022, arXiv:2101.06804).",
        figures={
            "examples_random": accuracy(marks["random"]),
            "examples_nearest": accuracy(marks["bm25"]),
            "nearest_minus_random": gain(marks["random"], marks["bm25"]),
        },
        claims=(gains(says, marks["random"], marks["bm25"], seed=room.seed, above=0),),
        examples=tuple(room.example(_near_runs(room, method)[0][0]) for method in marks),
        curve=("examples_random", "examples_nearest"),
    )


def _near_runs(room: Classroom, method: str) -> list[list[Question]]:
    """A run has a pool, of which its program chooses; random ones are others in each run."""
    runs = []
    for run in _runs(room):
        rng = Random(f"{room.seed}/nearest/{run}")
        every = []
        for _ in range(100 + room.per_run):
            day = random_date(rng)
            every += [(FORMATS[source](day), FORMATS[target](day)) for source, target in NEAR.items()]
        pool, asked = every[:200], every[200 :: 2 * len(NEAR)] + every[201 :: 2 * len(NEAR)]
        shown = program(pool, choosing={"method": method, "count": 4, "seed": run})
        runs.append([Question(program=shown, variables={"text": text}, right=right) for text, right in asked])
    return runs


def _side_by_side(
    room: Classroom, draws: Mapping[str, Draw], claims: Mapping[str, str], *, title: str, lecture: str, remark: str = ""
) -> Chapter:
    """Kinds of lines, each with a figure and the claim that 80 % come right; `claims` are by the figures' names."""
    marks = [_asked(room, name, draw) for name, draw in draws.items()]
    return Chapter(
        title=title,
        lecture=lecture,
        figures=dict(zip(claims, map(accuracy, marks), strict=True)),
        claims=tuple(share_is(says, one, at_least=80) for says, one in zip(claims.values(), marks, strict=True)),
        examples=tuple(_example(room, name, draw) for name, draw in draws.items()),
        remark=remark,
    )


def _runs(room: Classroom) -> range:
    return range(room.num_runs)


def _asked(room: Classroom, name: str, draw: Draw) -> Marks:
    runs = [[_question(room, name, draw, f"{run}/{index}") for index in range(room.per_run)] for run in _runs(room)]
    return room.marks(runs, about=name)


def _example(room: Classroom, name: str, draw: Draw) -> Example:
    return room.example(_question(room, name, draw, "0/0"))


def _question(room: Classroom, name: str, draw: Draw, key: str) -> Question:
    pairs, (asked, right) = draw(Random(f"{room.seed}/{name}/{key}"))
    return Question(program=program(pairs), variables={"text": asked}, right=right)
