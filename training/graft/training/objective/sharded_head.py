"""An output head that is split along the vocabulary, and its softmax: of each token two numbers are exchanged, never
its logits (Shoeybi et al. 2019, arXiv:1909.08053, §3).

Legend: N asked tokens, V entries of the vocabulary here, P processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.training.runtime.collectives import all_gather


class SplitHead(nn.Linear):
    """Each process of a group has some entries of the vocabulary, in order: the weight is a DTensor."""

    @property
    def num_entries(self) -> int:
        """Of the process that has most, which all know alike."""
        weight = self.weight
        assert isinstance(weight, DTensor)
        num: int = -(-self.out_features // weight.device_mesh.size())
        return num


@dataclass(frozen=True, kw_only=True)
class SplitSoftmax:
    """A ``Softmax`` of logits whose others are in the group's other processes: each finds the same loss, and the
    gradient of its own.
    """

    first: int
    """The first entry of the vocabulary that is here."""
    group: dist.ProcessGroup

    @classmethod
    def of(cls, head: SplitHead) -> Self:
        weight = head.weight
        assert isinstance(weight, DTensor)
        mesh = weight.device_mesh
        return cls(first=head.num_entries * mesh.get_local_rank(), group=mesh.get_group())

    def losses(self, logits_NV: Tensor, labels_N1: Tensor) -> Tensor:
        log_z_N1, asked_N1 = self._exchanged(logits_NV, *self._places(logits_NV, labels_N1))
        return log_z_N1 - asked_N1

    def losses_and_gradient(
        self, logits_NV: Tensor, labels_N1: Tensor, z: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        place_N1, is_here_N1 = self._places(logits_NV, labels_N1)
        log_z_N1, asked_N1 = self._exchanged(logits_NV, place_N1, is_here_N1)
        loss_N1 = log_z_N1 - asked_N1
        grad_NV = logits_NV.sub_(log_z_N1).exp_()
        if z:
            loss_N1 += z * log_z_N1.square()
            grad_NV *= 1 + 2 * z * log_z_N1
        if grad_NV.shape[1]:
            grad_NV.scatter_add_(1, place_N1, -is_here_N1.to(grad_NV.dtype))
        return loss_N1, grad_NV.to(dtype)

    def _places(self, logits_NV: Tensor, labels_N1: Tensor) -> tuple[Tensor, Tensor]:
        """Of each label among the entries here, 0 for one that is elsewhere, and whether it is here."""
        own_N1 = labels_N1 - self.first
        is_here_N1 = (own_N1 >= 0) & (own_N1 < logits_NV.shape[1])
        return own_N1.where(is_here_N1, 0), is_here_N1

    def _exchanged(self, logits_NV: Tensor, place_N1: Tensor, is_here_N1: Tensor) -> tuple[Tensor, Tensor]:
        """log Z over the whole vocabulary, and the label's logit, wherever it is. Shapes: (N, 1)."""
        asked_N1 = logits_NV.gather(1, place_N1).where(is_here_N1, 0.0) if logits_NV.shape[1] else is_here_N1.float()
        all_P2N1 = all_gather(torch.stack([logits_NV.logsumexp(-1, keepdim=True), asked_N1]), self.group)
        return all_P2N1[:, 0].logsumexp(0), all_P2N1[:, 1].sum(0)
