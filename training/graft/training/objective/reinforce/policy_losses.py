"""Losses of policies that learn from what they sampled, in nats for each token. Legend: N tokens of answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from graft.training.objective.reinforce.ratio import Level


class Mean(Enum):
    """Over what a step's loss is a mean."""

    TOKENS = "tokens"
    """All tokens alike (DAPO: Yu et al. 2025, arXiv:2503.14476, eq. 12)."""
    ANSWERS = "answers"
    """Answers, of which each is a mean over its tokens (GRPO: Shao et al. 2024, arXiv:2402.03300, eq. 3)."""
    SUMS = "sums"
    """Answers, of which each is the sum over its tokens, divided by a constant: so a long answer that is wrong costs no
    less for each token than a short one (Dr. GRPO: Liu et al. 2025, arXiv:2503.20783, §3.2)."""


class Clipping(Protocol):
    """Bounds of a ratio."""

    def ratio(self, ratio_N: Tensor) -> Tensor:
        """The ratio within them. Shapes: (N,)."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """How far a ratio may lead away from 1 before it gains nothing."""

    low: float = 0.2
    high: float = 0.2
    """More than ``low`` lets unlikely tokens rise (DAPO's clip-higher, eq. 10, where it is 0.28)."""

    def ratio(self, ratio_N: Tensor) -> Tensor:
        return ratio_N.clamp(1 - self.low, 1 + self.high)

    def is_low(self, tokens: Tokens) -> Tensor:
        """Whether a token would be made unlikely, and is so already."""
        return (tokens.ratio_N < 1 - self.low) & (tokens.advantage_N < 0)

    def is_high(self, tokens: Tokens) -> Tensor:
        """Whether a token would be made likely, and is so already."""
        return (tokens.ratio_N > 1 + self.high) & (tokens.advantage_N > 0)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What a loss is made of. Shapes: (N,)."""

    logprob_N: Tensor
    """Under the policy, with a gradient."""
    ratio_N: Tensor
    """π/π_old, at the loss's level."""
    advantage_N: Tensor


@dataclass(frozen=True, kw_only=True)
class PolicyLoss:
    """What a ``loss_type`` is."""

    losses: Callable[[Tokens, Clip], Tensor]
    """Of each token. Shape: (N,)."""
    level: Level = Level.TOKEN
    mean: Mean = Mean.TOKENS
    has_clip: bool = True


def clipped(tokens: Tokens, clip: Clipping) -> Tensor:
    """−min(ratio·A, clip(ratio)·A) (PPO: Schulman et al. 2017, arXiv:1707.06347, eq. 7)."""
    ratio_N, advantage_N = tokens.ratio_N, tokens.advantage_N
    return -torch.minimum(ratio_N * advantage_N, clip.ratio(ratio_N) * advantage_N)


def clipped_weight(tokens: Tokens, clip: Clipping) -> Tensor:
    """−sg(clip(ratio))·A·log π: no token is without a gradient (CISPO: MiniMax 2025, arXiv:2506.13585, eqs. 4, 5)."""
    return -clip.ratio(tokens.ratio_N.detach()) * tokens.advantage_N * tokens.logprob_N


def score(tokens: Tokens, clip: Clip) -> Tensor:
    """−A·log π (REINFORCE: Williams 1992)."""
    return -tokens.advantage_N * tokens.logprob_N


POLICY_LOSSES: Mapping[str, PolicyLoss] = {
    "grpo": PolicyLoss(losses=clipped, mean=Mean.ANSWERS),
    "dr_grpo": PolicyLoss(losses=clipped, mean=Mean.SUMS),
    "dapo": PolicyLoss(losses=clipped),
    "gspo": PolicyLoss(losses=clipped, level=Level.MEAN, mean=Mean.ANSWERS),
    "cispo": PolicyLoss(losses=clipped_weight),
    "ppo": PolicyLoss(losses=clipped),
    "reinforce": PolicyLoss(losses=score, mean=Mean.SUMS, has_clip=False),
    "rloo": PolicyLoss(losses=clipped, level=Level.ANSWER, mean=Mean.ANSWERS),
}
"""By the names of ``loss_type``. ``rloo`` is TRL's: at a ratio of 1 its gradient is that of ``reinforce``, the paper's
(Ahmadian et al. 2024, arXiv:2402.14740)."""
