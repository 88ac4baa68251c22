"""What a chapter claims, the figure measured for it with its interval, and whether it held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graft.training.evaluation.statistics.intervals import CONFIDENCE, NUM_RESAMPLES
from graft.training.evaluation.statistics.pairs import compare
from graft.training.evaluation.statistics.proportions import wilson

Marks = Sequence[Sequence[bool]]
"""Of each run, whether each of its questions was answered rightly."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number with the values of the runs that it is the mean of."""

    value: float
    unit: str
    runs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is said, and what was measured: ``value`` with its 95 % interval, in ``unit``.

    It held where the whole interval reaches ``bound`` (for ``above``: lies beyond it).
    """

    says: str
    value: float
    low: float
    high: float
    unit: Literal["percent", "points"]
    bound: float
    relation: Literal["at least", "above"]
    method: str
    num: int

    @property
    def held(self) -> bool:
        """Whether the data leave no doubt of it."""
        return self.low >= self.bound if self.relation == "at least" else self.low > self.bound


def accuracy(marks: Marks) -> Figure:
    """Percent right, over all questions; ``runs`` are the percent of each run."""
    runs = tuple(100 * sum(run) / len(run) for run in marks)
    every = flat(marks)
    return Figure(value=100 * sum(every) / len(every), unit="percent", runs=runs)


def gain(baseline: Marks, candidate: Marks) -> Figure:
    """Percentage points between two settings that answered the same questions."""
    before, after = accuracy(baseline), accuracy(candidate)
    runs = tuple(late - early for early, late in zip(before.runs, after.runs, strict=True))
    return Figure(value=after.value - before.value, unit="points", runs=runs)


def share_is(says: str, marks: Marks, *, at_least: float | None = None, above: float | None = None) -> Claim:
    """A share in percent against a bound, with Wilson's interval."""
    every = flat(marks)
    low, high = wilson(sum(every), len(every))
    return Claim(
        says=says,
        value=100 * sum(every) / len(every),
        low=100 * low,
        high=100 * high,
        unit="percent",
        bound=_bound(at_least, above),
        relation="at least" if above is None else "above",
        method="Wilson",
        num=len(every),
    )


def gains(
    says: str,
    baseline: Marks,
    candidate: Marks,
    *,
    seed: int,
    at_least: float | None = None,
    above: float | None = None,
) -> Claim:
    """The difference of two settings on the same questions against a bound, with a paired bootstrap interval."""
    compared = compare([float(mark) for mark in flat(baseline)], [float(mark) for mark in flat(candidate)], seed=seed)
    return Claim(
        says=says,
        value=100 * compared.difference,
        low=100 * compared.low,
        high=100 * compared.high,
        unit="points",
        bound=_bound(at_least, above),
        relation="at least" if above is None else "above",
        method="paired bootstrap",
        num=compared.num,
    )


def variance_falls(says: str, raw: Marks, calibrated: Marks, *, seed: int, at_least: float) -> Claim:
    """By how many percent the variance of accuracy over prompts is smaller; a run is a prompt, and all have the same
    questions, which the bootstrap resamples.

    Where the raw accuracies do not vary there is nothing to lessen: 0.
    """
    before, after = np.asarray(raw, dtype=np.float64), np.asarray(calibrated, dtype=np.float64)
    num = before.shape[1]
    weights = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=NUM_RESAMPLES) / num
    resampled = _lessening((weights @ before.T).var(axis=1), (weights @ after.T).var(axis=1))
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    value = _lessening(before.mean(axis=1).var(keepdims=True), after.mean(axis=1).var(keepdims=True))[0]
    return Claim(
        says=says,
        value=float(value),
        low=float(low),
        high=float(high),
        unit="percent",
        bound=at_least,
        relation="at least",
        method="bootstrap over questions",
        num=num,
    )


def flat(marks: Marks) -> list[bool]:
    """Of all runs."""
    return [mark for run in marks for mark in run]


def _lessening(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(after, before, out=np.where(after > 0, np.inf, 1.0), where=before > 0)
    lessened: NDArray[np.float64] = np.maximum(100 * (1 - ratio), -1000.0)
    return lessened


def _bound(at_least: float | None, above: float | None) -> float:
    bound = at_least if above is None else above
    if bound is None:
        raise ValueError("a claim needs a bound")
    return bound
