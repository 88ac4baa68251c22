"""What a loss makes of logits: −log p of each row's label, + z · log² Z (PaLM: Chowdhery et al. 2022, arXiv:2204.02311,
§5), and the gradient, softmax − one-hot, while the logits are there. Legend: N rows, V entries of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Softmax(Protocol):
    """Over a vocabulary, which may be spread over processes: all call the same at the same time."""

    def losses(self, logits_NV: Tensor, labels_N1: Tensor) -> Tensor:
        """Of each row, without z. The logits may be changed. Shape: (N, 1)."""

    def losses_and_gradient(
        self, logits_NV: Tensor, labels_N1: Tensor, z: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Of each row, and its gradient at each logit in a type. The logits may be changed. Shapes: (N, 1), (N, V)."""


class WholeSoftmax:
    """Of logits that are all here."""

    def losses(self, logits_NV: Tensor, labels_N1: Tensor) -> Tensor:
        return functional.cross_entropy(logits_NV.float(), labels_N1[:, 0], reduction="none")[:, None]

    def losses_and_gradient(
        self, logits_NV: Tensor, labels_N1: Tensor, z: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        return (by_logarithms if logits_NV.is_cuda else in_place)(logits_NV, labels_N1, z, dtype)


@dataclass(frozen=True, kw_only=True)
class SmoothedSoftmax:
    """Of logits that are all here, with a part of each label spread evenly over the vocabulary (Szegedy et al. 2015,
    arXiv:1512.00567, §7): (1 − ε)(−log p of the label) + ε(−log p on average).
    """

    smoothing: float
    """ε"""

    def losses(self, logits_NV: Tensor, labels_N1: Tensor) -> Tensor:
        more_N1 = self._more(logits_NV, labels_N1)
        return WholeSoftmax().losses(logits_NV, labels_N1) + more_N1

    def losses_and_gradient(
        self, logits_NV: Tensor, labels_N1: Tensor, z: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        more_N1 = self._more(logits_NV, labels_N1)
        loss_N1, grad_NV = WholeSoftmax().losses_and_gradient(logits_NV, labels_N1, z, torch.float32)
        grad_NV -= self.smoothing / grad_NV.shape[1]
        grad_NV.scatter_add_(1, labels_N1, grad_NV.new_full((1, 1), self.smoothing).expand_as(labels_N1))
        return loss_N1 + more_N1, grad_NV.to(dtype)

    def _more(self, logits_NV: Tensor, labels_N1: Tensor) -> Tensor:
        """Than without smoothing; log Z is in both parts and falls out."""
        return self.smoothing * (logits_NV.gather(1, labels_N1) - logits_NV.mean(-1, keepdim=True)).float()


def in_place(logits_NV: Tensor, labels_N1: Tensor, z: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The fastest on CPUs, where passes over a part stay in the caches."""
    asked_logit_N1, highest_N1 = logits_NV.gather(1, labels_N1), logits_NV.amax(-1, keepdim=True)
    grad_NV = logits_NV.sub_(highest_N1).exp_()
    sum_N1 = grad_NV.sum(-1, keepdim=True)
    grad_NV /= sum_N1
    log_z_N1 = highest_N1 + sum_N1.log()
    loss_N1 = log_z_N1 - asked_logit_N1
    if z:
        loss_N1 += z * log_z_N1.square()
        grad_NV *= 1 + 2 * z * log_z_N1
    grad_NV.scatter_add_(1, labels_N1, grad_NV.new_full((1, 1), -1.0).expand_as(labels_N1))
    return loss_N1, grad_NV.to(dtype)


def by_logarithms(logits_NV: Tensor, labels_N1: Tensor, z: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The same in 22 bytes of traffic for a float32 logit in place of 46: a GPU's memory bounds it."""
    logs_NV = logits_NV.log_softmax(-1)
    asked_N1 = logs_NV.gather(1, labels_N1)
    loss_N1, at_label_N1 = -asked_N1, asked_N1.expm1()
    if z:
        log_z_N1 = logits_NV.gather(1, labels_N1) - asked_N1
        loss_N1 += z * log_z_N1.square()
        factor_N1 = 1 + 2 * z * log_z_N1
        at_label_N1 = asked_N1.exp() * factor_N1 - 1
        grad_NV = logs_NV.exp_().mul_(factor_N1).to(dtype)
    else:
        grad_NV = torch.exp(logs_NV, out=logs_NV.new_empty(logs_NV.shape, dtype=dtype))
    return loss_N1, grad_NV.scatter_(1, labels_N1, at_label_N1.to(dtype))
