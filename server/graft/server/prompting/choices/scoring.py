"""Choices compared by the log-probability that a model gives them. Pure: numbers in, numbers out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

TIE = 1e-6
"""Scores (natural logarithms) that are nearer to each other are equal."""


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """What a model says of a choice: the natural log-probability of its tokens after a prompt."""

    text: str
    token_ids: tuple[int, ...]
    logprob: float
    unconditional: float | None = None
    """After a prompt that asks nothing (Brown et al. 2020, section 2.4)."""


@dataclass(frozen=True, kw_only=True)
class ScoredChoice:
    """`score` is what choices are compared by; `probability` follows from the scores and adds up to 1."""

    text: str
    logprob: float
    num_tokens: int
    score: float
    probability: float


def normalized(choice: Likelihood, how: str) -> float:
    """Log-probability of the choice: `sum`, per `token`, per UTF-8 `byte`, or minus the `unconditional` one.

    Raises `ValueError` where there is nothing to divide by or to take off.
    """
    match how:
        case "sum":
            return choice.logprob
        case "token":
            return choice.logprob / _some(len(choice.token_ids), "tokens")
        case "byte":
            return choice.logprob / _some(len(choice.text.encode()), "bytes")
        case "unconditional" if choice.unconditional is not None:
            return choice.logprob - choice.unconditional
    raise ValueError(f"choices cannot be compared by {how!r} of {choice.text!r}")


def _some(count: int, what: str) -> int:
    if not count:
        raise ValueError(f"a choice of no {what} has no log-probability per one of them")
    return count


def log_softmax(scores: Sequence[float]) -> list[float]:
    """The scores less what makes their exponentials add up to 1. -inf is a choice that cannot be."""
    greatest = max(scores)
    if greatest == -math.inf:
        return [-math.log(len(scores))] * len(scores)
    total = greatest + math.log(math.fsum(math.exp(score - greatest) for score in scores))
    return [score - total for score in scores]


def probabilities(scores: Sequence[float]) -> list[float]:
    """Softmax: all of them add up to 1."""
    return [math.exp(each) for each in log_softmax(scores)]


def scored(choices: Sequence[Likelihood], scores: Sequence[float]) -> tuple[ScoredChoice, ...]:
    """The choices in their order with their scores, normalized and perhaps calibrated, and what follows from these."""
    return tuple(
        ScoredChoice(
            text=choice.text,
            logprob=choice.logprob,
            num_tokens=len(choice.token_ids),
            score=score,
            probability=probability,
        )
        for choice, score, probability in zip(choices, scores, probabilities(scores), strict=True)
    )


def best(scores: Sequence[float]) -> list[int]:
    """Indices of the choices that none surpasses: one, or those that tie. The first of them is the answer."""
    greatest = max(scores)
    return [index for index, score in enumerate(scores) if score == greatest or greatest - score <= TIE]


def alike(values: Iterable[Hashable]) -> list[tuple[int, ...]]:
    """Indices of what is the same value, group by group."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for index, value in enumerate(values):
        places[value].append(index)
    return [tuple(group) for group in places.values() if len(group) > 1]


@dataclass(frozen=True, kw_only=True)
class OrderEffect:
    """What the order in which a prompt lists its choices changes. All per choice, in the order first given."""

    num_orders: int
    mean_probabilities: tuple[float, ...]
    ranges: tuple[float, ...]
    """Greatest less smallest probability over the orders."""
    agreement: float
    """Share of the orders whose answer is the most frequent one."""

    @property
    def answer(self) -> int:
        """The choice that is the likeliest on average."""
        return best(self.mean_probabilities)[0]


def order_effect(by_order: Sequence[Sequence[float]]) -> OrderEffect:
    """From each order's probabilities, each row in the order first given."""
    columns = list(zip(*by_order, strict=True))
    answers = [best(row)[0] for row in by_order]
    return OrderEffect(
        num_orders=len(by_order),
        mean_probabilities=tuple(math.fsum(column) / len(column) for column in columns),
        ranges=tuple(max(column) - min(column) for column in columns),
        agreement=max(answers.count(answer) for answer in answers) / len(answers),
    )


def rotations(num_choices: int, *, at_most: int) -> list[tuple[int, ...]]:
    """Orders in which each choice comes once in each place; fewer, evenly spread, where there are more than wanted."""
    shifts = range(num_choices)
    if num_choices > at_most:
        shifts = [number * num_choices // at_most for number in range(at_most)]  # type: ignore[assignment]
    return [tuple((place + shift) % num_choices for place in range(num_choices)) for shift in shifts]
