"""Answers of another policy than the one that learns: of older weights, or of an engine that rounds in its own way.

Their tokens weigh π_old/π_sampled, so that means are what they would be had the old policy sampled; the loss's own
ratio leads on from the old policy (Hilton et al. 2021, arXiv:2110.00641, §3, decouples the two). Few large weights
would make up the variance: they are cut off (truncated importance sampling: Ionides 2008; IMPALA: Espeholt et al. 2018,
arXiv:1802.01561, §4.1), or their tokens are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from graft.training.batch.answers import AnswerBatch
from graft.training.objective.reinforce.ratio import Level


@dataclass(frozen=True, kw_only=True)
class Correction:
    """Bounds of the weights. Legend: N tokens of answers."""

    level: Level = Level.TOKEN
    most: float = 2.0
    least: float = 0.0
    masks: bool = False
    """Whether what lies outside weighs nothing; else it weighs what the bound says."""

    def weights(self, old_N: Tensor, sampled_N: Tensor, answers: AnswerBatch) -> Tensor:
        """Of each token, without a gradient. Shapes: (N,)."""
        log_weight_N = self.level.of((old_N - sampled_N).detach(), answers)
        # Clamped before the exponential, which overflows for a long answer's product.
        bounds = math.log(self.least) if self.least else -math.inf, math.log(self.most)
        clamped_N = log_weight_N.clamp(*bounds)
        return clamped_N.exp().where(clamped_N == log_weight_N, 0.0) if self.masks else clamped_N.exp()
