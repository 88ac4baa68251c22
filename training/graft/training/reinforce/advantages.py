"""How much better an answer is than what was to be expected of its prompt: pure functions of rewards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

EPSILON = 1e-4
"""Added to a standard deviation, as in TRL: rewards that hardly differ would be blown up."""

Estimator = Callable[[Sequence[float]], list[float]]


def standardised(rewards: Sequence[float]) -> list[float]:
    """(r − mean) / std of a group, by the unbiased variance (GRPO: Shao et al. 2024, arXiv:2402.03300, §4.1.2)."""
    spread = math.sqrt(_variance(rewards))
    return [each / (spread + EPSILON) for each in centred(rewards)]


def centred(rewards: Sequence[float]) -> list[float]:
    """r − mean of a group: dividing by its deviation would make prompts that are hardly ever, or nearly always, solved
    count more (Dr. GRPO: Liu et al. 2025, arXiv:2503.20783, §3.2).
    """
    mean = fmean(rewards)
    return [reward - mean for reward in rewards]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """r − the mean of the group's others, which does not depend on the answer, so that the gradient is unbiased (RLOO:
    Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740, §2.2). One answer alone has nothing to be compared with.
    """
    num = len(rewards)
    return [num / (num - 1) * each for each in centred(rewards)] if num > 1 else [0.0] * num


def as_they_are(rewards: Sequence[float]) -> list[float]:
    """r itself (REINFORCE without a baseline: Williams 1992)."""
    return list(rewards)


ESTIMATORS: Mapping[str, Estimator] = {
    "grpo": standardised,
    "dr_grpo": centred,
    "rloo": leave_one_out,
    "reinforce": as_they_are,
}
"""By the names that a user gives them. Of one group's rewards, in their order."""


def whitened(values: Sequence[float], *, keeps_mean: bool = False) -> list[float]:
    """With a mean of 0, unless it is kept, and a variance of 1, over all that are given (as in the code of Ziegler et
    al. 2019, arXiv:1909.08593); a single one stays as it is.
    """
    if len(values) < 2:
        return list(values)
    mean = fmean(values)
    scale = 1 / math.sqrt(_variance(values) + 1e-8)
    return [(value - mean) * scale + (mean if keeps_mean else 0.0) for value in values]


def _variance(values: Sequence[float]) -> float:
    """The unbiased one. By floats: the library's own, by fractions, takes seconds for a round's tokens."""
    return math.fsum(each * each for each in centred(values)) / (len(values) - 1) if len(values) > 1 else 0.0
