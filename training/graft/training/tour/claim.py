"""What a chapter claims, the figure measured for it with its interval, and whether it held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graft.training.evaluation.statistics.pairs import compare
from graft.training.evaluation.statistics.proportions import wilson
from graft.training.tour.figure import Marks, accuracies, flat, middle, resampled_accuracies


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


def share_is(says: str, marks: Marks, *, at_least: float | None = None, above: float | None = None) -> Claim:
    """A share in percent against a bound, with Wilson's interval."""
    every = flat(marks)
    low, high = wilson(round(sum(every)), len(every))
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
    compared = compare(flat(baseline), flat(candidate), seed=seed, is_only_resampled=True)
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


def variance_falls(
    says: str, raw: Sequence[Marks], calibrated: Sequence[Marks], *, seed: int, at_least: float
) -> Claim:
    """By how many percent the variance of accuracy over prompts is smaller, on average over sets of them; a run is a
    prompt, all of a set have the same questions, and these the bootstrap resamples.

    Where the raw accuracies do not vary there is nothing to lessen: 0.
    """
    before, after = (
        sum(one.var(axis=1) for one in resampled_accuracies(sets, seed=seed)) / len(sets) for sets in (raw, calibrated)
    )
    low, high = middle(_lessening(before, after))
    plain, better = (np.mean([accuracies(one).var() for one in sets], keepdims=True) for sets in (raw, calibrated))
    return Claim(
        says=says,
        value=float(_lessening(plain, better)[0]),
        low=low,
        high=high,
        unit="percent",
        bound=at_least,
        relation="at least",
        method="bootstrap over questions",
        num=sum(len(one[0]) for one in raw),
    )


def _lessening(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(after, before, out=np.where(after > 0, np.inf, 1.0), where=before > 0)
    lessened: NDArray[np.float64] = np.maximum(100 * (1 - ratio), -1000.0)
    return lessened


def _bound(at_least: float | None, above: float | None) -> float:
    bound = at_least if above is None else above
    if bound is None:
        raise ValueError("a claim needs a bound")
    return bound
