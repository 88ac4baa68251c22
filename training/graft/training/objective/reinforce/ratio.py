"""Of what a ratio of two policies' probabilities is taken. Legend: S answers, N tokens of answers."""

from __future__ import annotations

from enum import Enum

from torch import Tensor

from graft.training.batch.answers import AnswerBatch


class Level(Enum):
    """Whose probability it is."""

    TOKEN = "token"
    """Each token's by itself (PPO: Schulman et al. 2017, arXiv:1707.06347, §3)."""
    MEAN = "mean"
    """The geometric mean of an answer's tokens' (GSPO: Zheng et al. 2025, arXiv:2507.18071, eq. 7)."""
    ANSWER = "answer"
    """A whole answer's: the product of its tokens'."""

    def of(self, log_ratio_N: Tensor, answers: AnswerBatch) -> Tensor:
        """log ratio, at each token that of its answer where it is an answer's. Shapes: (N,)."""
        if self is Level.TOKEN:
            return log_ratio_N
        sum_S, _ = answers.sums(log_ratio_N)
        return answers.spread(sum_S if self is Level.ANSWER else sum_S / answers.length_S.clamp(min=1))
