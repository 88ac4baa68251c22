"""How far a policy is from its reference, estimated from tokens that it sampled (Schulman 2020, "Approximating KL
Divergence", joschu.net/blog/kl-approx.html). With r = π_ref(x)/π(x), x ~ π, the mean of each is near KL(π, π_ref).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]
Learnable = Literal["k2", "k3"]
"""The gradient of k1 is 0 in expectation, whatever the policy: it may be a part of rewards, never of a loss (Tang &
Munos 2025, arXiv:2506.09477). That of k2 is the divergence's own."""


def k1(logprob_N: Tensor, reference_N: Tensor) -> Tensor:
    """−log r: unbiased, with a high variance; of a single token it may be below 0."""
    return logprob_N - reference_N


def k2(logprob_N: Tensor, reference_N: Tensor) -> Tensor:
    """(log r)²/2: biased, with a low variance."""
    return (logprob_N - reference_N).square() / 2


def k3(logprob_N: Tensor, reference_N: Tensor) -> Tensor:
    """r − 1 − log r: unbiased, and never below 0 (GRPO: Shao et al. 2024, arXiv:2402.03300, eq. 4)."""
    away_N = reference_N - logprob_N
    return away_N.expm1() - away_N


ESTIMATORS: Mapping[Estimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
"""Of log p under the policy and under the reference, in nats. Shapes: (N,)."""
