"""A number that was measured: with the runs that it is the mean of, and with its interval where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graft.training.evaluation.statistics.intervals import CONFIDENCE, NUM_RESAMPLES
from graft.training.evaluation.statistics.proportions import wilson

Marks = Sequence[Sequence[float]]
"""Of each run, whether each of its questions was answered rightly: 1 or 0, or in between where it was asked often."""
Unit = Literal["percent", "points", "claims"]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """``interval``: of 95 %."""

    value: float
    unit: Unit
    runs: tuple[float, ...]
    interval: Interval | None = None


def accuracy(marks: Marks) -> Figure:
    """Percent right, over all questions, with Wilson's interval; ``runs`` are the percent of each run."""
    every = flat(marks)
    low, high = wilson(round(sum(every)), len(every))
    return Figure(
        value=100 * sum(every) / len(every),
        unit="percent",
        runs=tuple(100 * sum(run) / len(run) for run in marks),
        interval=(100 * low, 100 * high),
    )


def gain(baseline: Marks, candidate: Marks) -> Figure:
    """Percentage points between two settings that answered the same questions."""
    before, after = accuracy(baseline), accuracy(candidate)
    runs = tuple(late - early for early, late in zip(before.runs, after.runs, strict=True))
    return Figure(value=after.value - before.value, unit="points", runs=runs)


def mean_accuracy(sets: Sequence[Marks], *, seed: int) -> Figure:
    """Percent right over prompts that were asked the same questions: each run of a set is a prompt."""
    runs = tuple(float(100 * np.mean(np.asarray(one, dtype=np.float64))) for one in sets)
    means = sum(100 * one.mean(axis=1) for one in resampled_accuracies(sets, seed=seed)) / len(sets)
    return Figure(value=sum(runs) / len(runs), unit="percent", runs=runs, interval=middle(means))


def deviation(sets: Sequence[Marks], *, seed: int) -> Figure:
    """The standard deviation of accuracy over a set's prompts, in points: the root of the sets' mean variance."""
    variances = [accuracies(one).var() for one in sets]
    resampled = sum(one.var(axis=1) for one in resampled_accuracies(sets, seed=seed)) / len(sets)
    return Figure(
        value=float(100 * np.sqrt(np.mean(variances))),
        unit="points",
        runs=tuple(float(100 * np.sqrt(one)) for one in variances),
        interval=middle(100 * np.sqrt(resampled)),
    )


def accuracies(marks: Marks) -> NDArray[np.float64]:
    """Share right of each run."""
    shares: NDArray[np.float64] = np.asarray(marks, dtype=np.float64).mean(axis=1)
    return shares


def resampled_accuracies(sets: Sequence[Marks], *, seed: int) -> list[NDArray[np.float64]]:
    """Of each set ``[resample, prompt]``: shares right, where the set's questions are drawn with replacement. The same
    seed draws the same questions.
    """
    rng, found = np.random.default_rng(seed), []
    for one in sets:
        rows = np.asarray(one, dtype=np.float64)
        num = rows.shape[1]
        drawn = rng.multinomial(num, np.full(num, 1 / num), size=NUM_RESAMPLES)
        found.append(drawn @ rows.T / num)
    return found


def middle(values: NDArray[np.float64]) -> Interval:
    """Where the middle 95 % of them lie."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def flat(marks: Marks) -> list[float]:
    """Of all runs."""
    return [mark for run in marks for mark in run]
