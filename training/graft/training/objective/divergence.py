"""How far a student's next-token distribution is from its teacher's: the generalised Jensen–Shannon divergence (GKD:
Agarwal et al. 2023, arXiv:2306.13649, eq. 1), with both Kullback–Leibler divergences at its ends.

Legend: N rows, V entries of the vocabulary; p the teacher's distribution, q the student's, m = β p + (1 − β) q.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """β KL(p ‖ m) + (1 − β) KL(q ‖ m) of distributions that ``temperature`` softens, times its square: so its gradient
    does not shrink as the temperature rises (Hinton et al. 2015, arXiv:1503.02531, §2).

    ``beta`` 0 is KL(p ‖ q), which covers all that the teacher may say; 1 is KL(q ‖ p), which keeps to what it mostly
    says: the limits of the divergence divided by β and by 1 − β.
    """

    beta: float = 0.0
    temperature: float = 2.0

    def losses(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        """In nats, of each row, from logits in float32. Shape: (N,)."""
        return self._losses(*self._logs(student_NV, teacher_NV))[0] * self.temperature**2

    def losses_and_gradient(self, student_NV: Tensor, teacher_NV: Tensor) -> tuple[Tensor, Tensor]:
        """Of each row, and the gradient at each of the student's logits. Shapes: (N,), (N, V)."""
        logs = self._logs(student_NV, teacher_NV)
        losses_N, ratio_NV = self._losses(*logs)
        q_NV = logs[0].exp()
        if ratio_NV is None:
            grad_NV = q_NV - logs[1].exp()
        else:
            grad_NV = (1 - self.beta or 1.0) * q_NV * (ratio_NV - (q_NV * ratio_NV).sum(-1, keepdim=True))
        return losses_N * self.temperature**2, grad_NV * self.temperature

    def _logs(self, student_NV: Tensor, teacher_NV: Tensor) -> tuple[Tensor, Tensor]:
        return (student_NV / self.temperature).log_softmax(-1), (teacher_NV / self.temperature).log_softmax(-1)

    def _losses(self, log_q_NV: Tensor, log_p_NV: Tensor) -> tuple[Tensor, Tensor | None]:
        """And log q − log m, by which q learns; None where the loss is not of that kind."""
        if self.beta == 0:
            return _kl(log_p_NV, log_q_NV), None
        if self.beta == 1:
            return _kl(log_q_NV, log_p_NV), log_q_NV - log_p_NV
        log_m_NV = torch.logaddexp(log_q_NV + math.log1p(-self.beta), log_p_NV + math.log(self.beta))
        losses_N = self.beta * _kl(log_p_NV, log_m_NV) + (1 - self.beta) * _kl(log_q_NV, log_m_NV)
        return losses_N, log_q_NV - log_m_NV


def _kl(log_p_NV: Tensor, log_q_NV: Tensor) -> Tensor:
    return (log_p_NV.exp() * (log_p_NV - log_q_NV)).sum(-1)
