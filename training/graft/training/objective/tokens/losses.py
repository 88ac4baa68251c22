"""Losses of single tokens, in nats, which are summed and never averaged. Legend: N tokens.

Their names, what they are given and their formulas are those of Tinker's API (Thinking Machines Lab 2025,
tinker-docs.thinkingmachines.ai/losses), so that a loop written for it learns the same here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graft.training.objective.reinforce.policy_losses import Tokens, clipped, clipped_weight

WEIGHTS, LOGPROBS, ADVANTAGES = "weights", "logprobs", "advantages"
"""Of each token its factor; log p under whoever sampled it, in nats; how much better it was than expected."""
LOW, HIGH = "clip_low_threshold", "clip_high_threshold"
"""Bounds of π/π_sampled itself, not of its distance from 1."""
BETA = "beta"

Given = Mapping[str, Tensor]
"""Values by their names: (N,), or one for all tokens."""


@dataclass(frozen=True, kw_only=True)
class TokenLoss:
    """What a name stands for."""

    losses: Callable[[Tensor, Given], Tensor]
    """Of log p of each token, which has a gradient, and what is given. Shape: (N,)."""
    needs: tuple[str, ...] = ()
    """What every token must be given."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Numbers that may be said, for all tokens or for each, and what they are where they are not."""


def cross_entropy(logprob_N: Tensor, given: Given) -> Tensor:
    """−w·log p."""
    return -logprob_N * given[WEIGHTS]


def importance_sampling(logprob_N: Tensor, given: Given) -> Tensor:
    """−(π/π_sampled)·A: the policy gradient, corrected for who sampled."""
    tokens = _tokens(logprob_N, given)
    return -tokens.ratio_N * tokens.advantage_N


def ppo(logprob_N: Tensor, given: Given) -> Tensor:
    return clipped(_tokens(logprob_N, given), _Bounds(low=given[LOW], high=given[HIGH]))


def cispo(logprob_N: Tensor, given: Given) -> Tensor:
    return clipped_weight(_tokens(logprob_N, given), _Bounds(low=given[LOW], high=given[HIGH]))


def dro(logprob_N: Tensor, given: Given) -> Tensor:
    """−(A·log p − β/2·(log p − log p_sampled)²): direct reward optimisation, off-policy (Richemond et al. 2024,
    arXiv:2405.19107, eq. 9), whose value is not learned but lies in the advantage.
    """
    distance_N = logprob_N - given[LOGPROBS]
    return given[BETA] / 2 * distance_N.square() - given[ADVANTAGES] * logprob_N


_SAMPLED = (LOGPROBS, ADVANTAGES)
_CLIPS = {LOW: 0.8, HIGH: 1.2}
TOKEN_LOSSES: Mapping[str, TokenLoss] = {
    "cross_entropy": TokenLoss(losses=cross_entropy, options={WEIGHTS: 1.0}),
    "importance_sampling": TokenLoss(losses=importance_sampling, needs=_SAMPLED),
    "ppo": TokenLoss(losses=ppo, needs=_SAMPLED, options=_CLIPS),
    "cispo": TokenLoss(losses=cispo, needs=_SAMPLED, options=_CLIPS),
    "dro": TokenLoss(losses=dro, needs=_SAMPLED, options={BETA: 0.05}),
}


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    low: Tensor
    high: Tensor

    def ratio(self, ratio_N: Tensor) -> Tensor:
        return torch.clamp(ratio_N, self.low, self.high)


def _tokens(logprob_N: Tensor, given: Given) -> Tokens:
    ratio_N = (logprob_N - given[LOGPROBS]).exp()
    return Tokens(logprob_N=logprob_N, ratio_N=ratio_N, advantage_N=given[ADVANTAGES])
