"""Means with bootstrap intervals (Efron 1979, percentile method), seeded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
_CHUNK = 20_000_000
"""Counts that are drawn at a time."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over questions, its standard error (sample deviation over the root of their number) and interval."""

    mean: float
    low: float
    high: float
    standard_error: float
    num: int


def mean_of(values: Sequence[float], *, seed: int, confidence: float = CONFIDENCE) -> Interval:
    """The mean with its interval. Raises ValueError for no values."""
    if not values:
        raise ValueError("there are no values")
    array = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(resampled_means(array, seed=seed), [(1 - confidence) / 2, (1 + confidence) / 2])
    deviation = float(array.std(ddof=1)) if len(array) > 1 else math.nan
    return Interval(
        mean=float(array.mean()),
        low=float(low),
        high=float(high),
        standard_error=deviation / math.sqrt(len(array)),
        num=len(array),
    )


def resampled_means(values: NDArray[np.float64], *, seed: int, num: int = NUM_RESAMPLES) -> NDArray[np.float64]:
    """Means of ``num`` samples drawn from the values with replacement, each as large as they are many.

    How often each distinct value is drawn is multinomial: the same distribution as drawing them one by one.
    """
    distinct, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // len(distinct))
    parts = []
    for begin in range(0, num, size):
        drawn = rng.multinomial(len(values), counts / len(values), size=min(size, num - begin))
        parts.append(drawn @ distinct / len(values))
    return np.concatenate(parts)
