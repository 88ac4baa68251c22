"""An output head that is split along the vocabulary, and its cross-entropy: of each token two numbers are exchanged,
never its logits (Shoeybi et al. 2019, arXiv:1909.08053, §3).

Legend: N asked tokens, D width, V entries of the vocabulary here, P processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.training.runtime.collectives import all_gather


class SplitHead(nn.Linear):
    """Each process of a group has some entries of the vocabulary, in order: the weight is a DTensor."""


class _Loss(torch.autograd.Function):
    """Σ −log p of the labels, + z · Σ log² Z. Every process has all states and finds the same loss; the gradient of the
    states is the part that comes by this process's entries.
    """

    @staticmethod
    def forward(
        context: Any,
        states_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        labels_N: Tensor,
        z: float,
        first: int,
        rows: int,
        group: dist.ProcessGroup,
    ) -> Tensor:
        """Labels are counted from this process's first entry."""
        learns_states, learns_weight, learns_bias = context.needs_input_grad[:3]
        total = states_ND.new_zeros((), dtype=torch.float32)
        states_grad = torch.empty_like(states_ND) if learns_states else None
        weight_grad = torch.zeros_like(weight_VD, dtype=torch.float32) if learns_weight else None
        bias_grad = weight_VD.new_zeros(len(weight_VD), dtype=torch.float32) if learns_bias else None
        labels_N = labels_N - first
        for start in range(0, len(labels_N), rows):
            part_ND, own_N = states_ND[start : start + rows], labels_N[start : start + rows]
            logits_NV = nn.functional.linear(part_ND, weight_VD, bias_V).float()
            is_here_N = (own_N >= 0) & (own_N < len(weight_VD))
            place_N1 = own_N.where(is_here_N, 0)[:, None]
            log_z_N, asked_N = _exchanged(logits_NV, place_N1, is_here_N, group)
            total += (log_z_N - asked_N).sum() + z * log_z_N.square().sum()
            if states_grad is None and weight_grad is None:
                continue
            grad_NV = logits_NV.sub_(log_z_N[:, None]).exp_().mul_((1 + 2 * z * log_z_N)[:, None])
            if len(weight_VD):
                grad_NV.scatter_add_(1, place_N1, -is_here_N[:, None].to(grad_NV.dtype))
            grad_NV = grad_NV.to(part_ND.dtype)
            if states_grad is not None:
                states_grad[start : start + rows] = grad_NV @ weight_VD
            if weight_grad is not None:
                weight_grad += grad_NV.T @ part_ND
            if bias_grad is not None:
                bias_grad += grad_NV.sum(0)
        context.save_for_backward(states_grad, weight_grad, bias_grad)
        context.dtype = weight_VD.dtype
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = gradients
        scaled = [None if one is None else one.mul_(factor).to(context.dtype) for one in context.saved_tensors]
        return (*scaled, None, None, None, None, None)


def _exchanged(
    logits_NV: Tensor, place_N1: Tensor, is_here_N: Tensor, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor]:
    """log Z over the whole vocabulary, and the label's logit, wherever it is."""
    asked_N = logits_NV.gather(1, place_N1)[:, 0].where(is_here_N, 0.0) if logits_NV.shape[1] else is_here_N.float()
    own_2N = torch.stack([logits_NV.logsumexp(-1), asked_N])
    all_P2N = all_gather(own_2N, group)
    return all_P2N[:, 0].logsumexp(0), all_P2N[:, 1].sum(0)


def split_cross_entropy(
    states_ND: Tensor, weight: DTensor, bias: DTensor | None, labels_N: Tensor, *, z: float, rows: int
) -> Tensor:
    """The summed cross-entropy of a head that is split by its outputs, in float32, ``rows`` tokens at a time."""
    mesh = weight.device_mesh
    size = -(-weight.shape[0] // mesh.size())
    total: Tensor = _Loss.apply(
        states_ND,
        weight.to_local(),
        None if bias is None else bias.to_local(),
        labels_N,
        z,
        size * mesh.get_local_rank(),
        rows,
        mesh.get_group(),
    )
    return total
