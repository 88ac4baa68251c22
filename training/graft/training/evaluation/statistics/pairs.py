"""Two models on the same questions: the difference with its interval, and whether chance explains it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graft.training.evaluation.statistics.intervals import CONFIDENCE, NUM_RESAMPLES, resampled_means
from graft.training.evaluation.statistics.proportions import newcombe


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Candidate minus baseline over the questions that both answered.

    ``p_value`` is McNemar's exact test where all scores are 0 or 1 (McNemar 1947), else of a paired bootstrap, and then
    no less than what a sign test could give of so many questions. The interval is a paired bootstrap's; of scores of 0
    and 1 whose differences are all the same, which resampling gives no width, Newcombe's.
    """

    difference: float
    low: float
    high: float
    p_value: float
    test: str
    num_better: int
    num_worse: int
    num: int


def compare(
    baseline: Sequence[float], candidate: Sequence[float], *, seed: int, is_only_resampled: bool = False
) -> Comparison:
    """Compares scores of the same questions in the same order. Raises ValueError for none.

    ``is_only_resampled``: the interval is the bootstrap's, of width 0 or not.
    """
    before, after = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    if len(before) != len(after) or not len(before):
        raise ValueError("both models must have scores of the same questions")
    differences = after - before
    means = resampled_means(differences, seed=seed)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    is_binary = bool(np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all())
    if is_binary and low == high and not is_only_resampled:
        right, was_right = after == 1, before == 1
        low, high = newcombe(int((right & was_right).sum()), better, worse, int((~right & ~was_right).sum()))
    if is_binary:
        test, p_value = "McNemar, exact", mcnemar(better, worse)
    else:
        beyond = min(int((means <= 0).sum()), int((means >= 0).sum())) + 1
        test, p_value = "paired bootstrap", max(min(1.0, 2 * beyond / (NUM_RESAMPLES + 1)), mcnemar(better + worse, 0))
    return Comparison(
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        p_value=p_value,
        test=test,
        num_better=better,
        num_worse=worse,
        num=len(before),
    )


def mcnemar(better: int, worse: int) -> float:
    """Two-sided exact probability of a split at least so uneven of ``better + worse`` fair coins."""
    num, least = better + worse, min(better, worse)
    if not num:
        return 1.0
    total, term = 0, 1
    for heads in range(least + 1):
        total += term
        term = term * (num - heads) // (heads + 1)
    log_share = math.log(total) - num * math.log(2) if total else -math.inf
    return min(1.0, 2 * math.exp(log_share))
