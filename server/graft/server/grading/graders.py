"""Graders, one value for each type of OpenAI's (openai/types/graders), and for one of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from graft.server.grading.formula import Formula
from graft.server.grading.templates import Template

Operation = Literal["eq", "ne", "like", "ilike"]
Metric = Literal[
    "cosine",
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]


@dataclass(frozen=True, kw_only=True)
class StringCheck:
    """1 where the operation holds between two texts, else 0. `like`: the input contains the reference."""

    name: str
    input: Template
    reference: Template
    operation: Operation


@dataclass(frozen=True, kw_only=True)
class TextSimilarity:
    """How alike input and reference are, from 0 to 1."""

    name: str
    input: Template
    reference: Template
    metric: Metric


@dataclass(frozen=True, kw_only=True)
class Message:
    """A turn of what a model is asked."""

    role: str
    content: Template


@dataclass(frozen=True, kw_only=True)
class JudgeSampling:
    """How a grading model answers; without a temperature it says what is likeliest."""

    max_tokens: int | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreModel:
    """A model says a number between `low` and `high`."""

    name: str
    model: str
    input: tuple[Message, ...]
    low: float = 0.0
    high: float = 1.0
    sampling: JudgeSampling = field(default_factory=JudgeSampling)


@dataclass(frozen=True, kw_only=True)
class LabelModel:
    """A model says one of the labels: 1 where it is a passing one, else 0."""

    name: str
    model: str
    input: tuple[Message, ...]
    labels: tuple[str, ...]
    passing_labels: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class PythonSource:
    """A script with `grade(sample, item)`, whose number is the reward."""

    name: str
    source: str


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """Not OpenAI's: an adapter whose head says what an answer behind its item's messages is worth."""

    name: str
    model: str


Single = StringCheck | TextSimilarity | ScoreModel | LabelModel | PythonSource | RewardModel


@dataclass(frozen=True, kw_only=True)
class Multi:
    """Several graders, by the names that the formula has for their rewards."""

    name: str
    graders: Mapping[str, Single]
    formula: Formula


Grader = Single | Multi


def type_of(grader: Grader) -> str:
    """Its `type` on the wire."""
    return _TYPES[type(grader)]


def parts_of(grader: Grader) -> Iterator[Single]:
    """The graders that it asks: itself, or several's."""
    return (part for _, part in placed_parts(grader, ""))


def placed_parts(grader: Grader, field: str) -> Iterator[tuple[str, Single]]:
    """The same, each with its place in a request where the grader is `field`."""
    if isinstance(grader, Multi):
        yield from ((f"{field}.graders.{name}", part) for name, part in grader.graders.items())
    else:
        yield field, grader


def templates_of(grader: Grader) -> Iterator[Template]:
    """All texts that it writes from what is graded: a job checks its rows by what they name."""
    for part in parts_of(grader):
        match part:
            case StringCheck() | TextSimilarity():
                yield from (part.input, part.reference)
            case ScoreModel() | LabelModel():
                yield from (message.content for message in part.input)


_TYPES: dict[type[Grader], str] = {
    StringCheck: "string_check",
    TextSimilarity: "text_similarity",
    ScoreModel: "score_model",
    LabelModel: "label_model",
    PythonSource: "python",
    RewardModel: "reward_model",
    Multi: "multi",
}
