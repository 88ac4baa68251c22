"""A task: questions with what is right, how they are put to a model, and how answers are read and marked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from graft.training.evaluation.asking.model import Prompt
from graft.training.evaluation.checks.check import Check


class Kind(StrEnum):
    """What is asked of a model, in lm-evaluation-harness' words."""

    GENERATE = "generate_until"
    CHOICE = "multiple_choice"
    LIKELIHOOD = "loglikelihood"


class Aggregation(StrEnum):
    """How questions' scores become a task's."""

    MEAN = "mean"
    PERPLEXITY = "perplexity"
    """exp of minus the mean log-probability."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure by name (``exact_match``, ``acc``, ``acc_norm``, …), with what its comparison passes over."""

    name: str
    aggregation: Aggregation = Aggregation.MEAN
    higher_is_better: bool = True
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False
    regexes_to_ignore: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One function over an answer's text: ``regex``, ``remove_whitespace``, ``strip``, ``first_line``, …"""

    function: str
    pattern: str = ""
    """Of ``regex``, in RE2's syntax."""
    group: int = 0
    """Of ``regex``: which of its matches, from 0; -1 is the last."""
    fallback: str = "[invalid]"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A named chain of functions that makes the answer of what was said."""

    name: str = "none"
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question. ``targets`` are all right answers; of choices ``gold`` are the right ones' indices."""

    prompt: Prompt
    targets: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    gold: tuple[int, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    threshold: float | None = None
    """Of checks: the weighted part of them that must hold; default: all."""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A worked question as it stands in a prompt."""

    prompt: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """Questions and how they are asked."""

    name: str
    kind: Kind
    questions: tuple[Question, ...]
    metrics: tuple[Metric, ...]
    examples: tuple[Example, ...] = ()
    examples_are_questions: bool = False
    """Then a question is never shown as its own example."""
    sampler: str = "default"
    """``default`` draws examples at random, ``first_n`` takes the first."""
    description: str = ""
    shots: int = 0
    separator: str = "\n\n"
    target_delimiter: str = " "
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    readings: tuple[Reading, ...] = (Reading(),)
    worked: Task | None = None
    """The same questions asked for with their steps; default: in two stages (Kojima et al. 2022, arXiv:2205.11916)."""
    answer_instruction: str = "Therefore, the answer is"
    """Of the second stage."""
    answer_fields: tuple[str, ...] = ()
    """Names of variables that the right answer is made from: no prompt program is given them."""
    version: str = "1"

    @property
    def main_metric(self) -> Metric:
        return self.metrics[0]
