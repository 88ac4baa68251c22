"""Texts of two classes, and how one may be asked which class it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from graft.training.rootstock.corpus import sentiment
from graft.training.rootstock.corpus.words import CONSONANTS, word

NUM_SHOWN = 4
"""Demonstrations of a prompt."""
Labels = tuple[str, str]
Draw = Callable[[Random], tuple[Labels, Callable[[], tuple[str, int]]]]
"""Labels of two classes, and what makes a text with its class."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a question is put; ``labels`` where they are not the task's own."""

    text: str
    labels: Labels | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """Texts of two classes, and the forms in which they may be asked."""

    name: str
    draw: Draw
    forms: tuple[Form, ...]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Four demonstrations of each class, and questions with their class, as many of each."""

    labels: Labels
    shown: tuple[Sequence[str], Sequence[str]]
    asked: Sequence[tuple[str, int]]


def material(task: Task, rng: Random, num_questions: int) -> Material:
    """``num_questions`` is even; none of the texts comes twice."""
    labels, draw = task.draw(rng)
    wanted = NUM_SHOWN + num_questions // 2
    sides: tuple[dict[str, None], dict[str, None]] = ({}, {})
    while min(map(len, sides)) < wanted:
        text, side = draw()
        sides[side].setdefault(text)
    first, second = (list(side)[:wanted] for side in sides)
    pairs = zip(first[NUM_SHOWN:], second[NUM_SHOWN:], strict=True)
    asked = [(text, side) for pair in pairs for side, text in enumerate(pair)]
    return Material(labels=labels, shown=(first[:NUM_SHOWN], second[:NUM_SHOWN]), asked=asked)


def _reviews(rng: Random) -> tuple[Labels, Callable[[], tuple[str, int]]]:
    def draw() -> tuple[str, int]:
        text, label = sentiment.review(rng)
        return text.strip(), sentiment.LABELS.index(label)

    return sentiment.LABELS, draw


def _first_letters(rng: Random) -> tuple[Labels, Callable[[], tuple[str, int]]]:
    """Words that begin with one of two letters."""
    first, second = rng.sample(CONSONANTS, 2)

    def draw() -> tuple[str, int]:
        while (text := word(rng))[0] not in (first, second):
            pass
        return text, int(text[0] == second)

    return (first, second), draw


_FORMS = tuple(
    Form(text=text)
    for text in ("{{text}} ->", "Q: {{text}}\nA:", "{{text}}\nA:")
)  # fmt: skip
TASKS = (
    Task(name="first_letter", draw=_first_letters, forms=_FORMS),
    Task(
        name="sentiment",
        draw=_reviews,
        forms=(
            Form(text="{{text}} ->"),
            Form(text="{{text}} ->", labels=("no", "yes")),
            Form(text="Review: {{text}}\nSentiment:"),
        ),
    ),
)
