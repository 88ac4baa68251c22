"""The output head and its cross-entropy in one: logits exist for a few rows at a time, and only where one is asked for.

Their gradient is softmax − one-hot, so it is taken while the logits are there, and nothing of their size is kept (as in
Liger Kernel: Hsu et al. 2024, arXiv:2410.10989, §3.2). Legend: N asked tokens, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.training.model.family import facts_of
from graft.training.objective.objective import cross_entropy, places
from graft.training.objective.sharded_head import SplitHead, split_cross_entropy

CPU_ELEMENTS = 1 << 22
"""Logits at a time on a CPU: 16 MB of float32, which stay in its caches."""
GPU_ELEMENTS = 1 << 28
"""Logits at a time on a GPU: 1 GiB of float32, and as much again for their logarithms."""
GPU_ROWS = 2048
"""But so many rows at least, whatever the vocabulary. Each part reads the weights twice, and reads and writes their
float32 gradient: 12 VD bytes for 6 VD operations a row. The product that moves most (8 VD bytes, 2 VD operations a row)
keeps pace with the memory from 4 × peak / bandwidth rows on: 1,180 on an H100 (989 TFLOP/s, 3.35 TB/s), 624 on an A100,
1,125 on a B200."""


def rows_at_once(device: torch.device, vocabulary: int) -> int:
    """How many tokens' logits are there at a time."""
    if device.type == "cuda":
        return max(GPU_ROWS, GPU_ELEMENTS // vocabulary // 256 * 256)  # whole tiles of a product
    return max(1, CPU_ELEMENTS // vocabulary)


class _HeadCrossEntropy(torch.autograd.Function):
    """Σ −log p of the labels, + z · Σ log² Z (PaLM: Chowdhery et al. 2022, arXiv:2204.02311, §5)."""

    @staticmethod
    def forward(
        context: Any,
        states_TD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        labels_N: Tensor,
        asked_N: Tensor | None,
        z: float,
    ) -> Tensor:
        learns_weight, learns_bias = context.needs_input_grad[1:3]
        states_grad = torch.empty_like(states_TD) if asked_N is None else torch.zeros_like(states_TD)
        weight_grad = torch.zeros_like(weight_VD, dtype=torch.float32) if learns_weight else None
        bias_grad = torch.zeros_like(weight_VD[:, 0], dtype=torch.float32) if learns_bias else None
        total = states_TD.new_zeros((), dtype=torch.float32)
        logits = _Logits.of(states_TD, weight_VD, bias_V, len(labels_N))
        for start in range(0, len(labels_N), logits.rows):
            rows = slice(start, start + logits.rows)
            part_ND = states_TD[rows] if asked_N is None else states_TD.index_select(0, asked_N[rows])
            loss, grad_NV = logits.loss_and_gradient(part_ND, labels_N[rows, None], z)
            total += loss
            if asked_N is None:
                states_grad[rows] = grad_NV @ weight_VD
            else:
                states_grad.index_copy_(0, asked_N[rows], grad_NV @ weight_VD)
            if weight_grad is not None:
                _add_product(weight_grad, grad_NV.T, part_ND)
            if bias_grad is not None:
                bias_grad += grad_NV.sum(0)
        context.save_for_backward(states_grad, weight_grad, bias_grad)
        context.dtype = weight_VD.dtype
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = gradients
        states_grad, weight_grad, bias_grad = context.saved_tensors
        scaled = [
            None if one is None else one.mul_(factor).to(context.dtype) for one in (states_grad, weight_grad, bias_grad)
        ]
        return (*scaled, None, None, None)


@dataclass(frozen=True, kw_only=True)
class _Logits:
    """Those of some rows, and what the loss makes of them."""

    weight_VD: Tensor
    bias_V: Tensor | None
    rows: int
    room_NV: Tensor
    """Float32. Fresh memory costs more on a CPU than what is computed in it: one place serves for all parts."""

    @classmethod
    def of(cls, states_TD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, num_asked: int) -> _Logits:
        num, rows = len(weight_VD), rows_at_once(states_TD.device, len(weight_VD))
        room_NV = states_TD.new_empty(min(rows, num_asked), num, dtype=torch.float32)
        return cls(weight_VD=weight_VD, bias_V=bias_V, rows=rows, room_NV=room_NV)

    def loss_and_gradient(self, states_ND: Tensor, labels_N1: Tensor, z: float) -> tuple[Tensor, Tensor]:
        """The sum over the rows, and the gradient at each logit, in the type of the states. Shape: (N, V)."""
        room_NV = self.room_NV[: len(states_ND)]
        if states_ND.is_cuda:
            return _by_logarithms(
                _product(states_ND, self.weight_VD, self.bias_V, room_NV), labels_N1, z, states_ND.dtype
            )
        room_NV.copy_(nn.functional.linear(states_ND, self.weight_VD, self.bias_V))
        return _in_place(room_NV, labels_N1, z, states_ND.dtype)


def _in_place(logits_NV: Tensor, labels_N1: Tensor, z: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The fastest on CPUs, where passes over a part stay in the caches."""
    asked_logit_N1, highest_N1 = logits_NV.gather(1, labels_N1), logits_NV.amax(-1, keepdim=True)
    grad_NV = logits_NV.sub_(highest_N1).exp_()
    sum_N1 = grad_NV.sum(-1, keepdim=True)
    grad_NV /= sum_N1
    log_z_N1 = highest_N1 + sum_N1.log()
    loss = (log_z_N1 - asked_logit_N1).sum()
    if z:
        loss += z * log_z_N1.square().sum()
        grad_NV *= 1 + 2 * z * log_z_N1
    grad_NV.scatter_add_(1, labels_N1, grad_NV.new_full((1, 1), -1.0).expand_as(labels_N1))
    return loss, grad_NV.to(dtype)


def _by_logarithms(logits_NV: Tensor, labels_N1: Tensor, z: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The same in 22 bytes of traffic for a float32 logit in place of 46: a GPU's memory bounds it."""
    logs_NV = logits_NV.log_softmax(-1)
    asked_N1 = logs_NV.gather(1, labels_N1)
    loss, at_label_N1 = -asked_N1.sum(), asked_N1.expm1()
    if z:
        log_z_N1 = logits_NV.gather(1, labels_N1) - asked_N1
        loss += z * log_z_N1.square().sum()
        factor_N1 = 1 + 2 * z * log_z_N1
        at_label_N1 = asked_N1.exp() * factor_N1 - 1
        grad_NV = logs_NV.exp_().mul_(factor_N1).to(dtype)
    else:
        grad_NV = torch.exp(logs_NV, out=logs_NV.new_empty(logs_NV.shape, dtype=dtype))
    return loss, grad_NV.scatter_(1, labels_N1, at_label_N1.to(dtype))


def _product(states_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, room_NV: Tensor) -> Tensor:
    """Logits in float32, written by the matrix product itself where it can."""
    if states_ND.dtype == room_NV.dtype:
        torch.mm(states_ND, weight_VD.T, out=room_NV)
    else:
        torch.mm(states_ND, weight_VD.T, out_dtype=torch.float32, out=room_NV)
    return room_NV if bias_V is None else room_NV.add_(bias_V)


def _add_product(sum_VD: Tensor, left_VN: Tensor, right_ND: Tensor) -> None:
    """``sum += left @ right`` in float32. On a GPU the product adds to it, without a second matrix of that size."""
    if sum_VD.is_cuda and left_VN.dtype in (torch.bfloat16, torch.float16):
        torch.addmm(sum_VD, left_VN, right_ND, out_dtype=torch.float32, out=sum_VD)
    else:
        sum_VD += left_VN @ right_ND


def head_cross_entropy(
    states: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    labels: Tensor,
    *,
    z: float = 0.0,
    num_asked: int | None = None,
) -> Tensor:
    """−log p of each label that is asked for, summed, in float32. Shapes: (…, D) and (…).

    ``num_asked`` is their number: where it is known, a GPU need not be waited for.
    """
    states_TD, labels_T = states.reshape(-1, states.shape[-1]), labels.flatten()
    asked_N = None if num_asked == len(labels_T) else places(labels_T, num_asked)
    labels_N = labels_T if asked_N is None else labels_T.index_select(0, asked_N)
    if torch.is_grad_enabled():
        total: Tensor = _HeadCrossEntropy.apply(states_TD, weight_VD, bias_V, labels_N, asked_N, z)
        return total
    rows = rows_at_once(states.device, weight_VD.shape[0])
    states_ND = states_TD if asked_N is None else states_TD.index_select(0, asked_N)
    parts = zip(states_ND.split(rows), labels_N.split(rows), strict=True)
    sums = [cross_entropy(nn.functional.linear(some, weight_VD, bias_V), own) for some, own in parts]
    return torch.stack(sums).sum() if sums else states.new_zeros((), dtype=torch.float32)


def labelled(
    model: nn.Module,
    labels: Tensor,
    *,
    num_asked: int | None = None,
    name: str = "logits",
    z: float = 0.0,
    **inputs: Any,
) -> Any:
    """The model's output for ``inputs``, with the summed cross-entropy of ``labels`` in place of its logits.

    ``num_asked`` labels are not ``IGNORED``, where that was counted before. ``name`` is the field of the output. A head
    that is no plain matrix, or whose logits may be changed behind it, computes them whole.
    """
    head = model.get_output_embeddings()
    is_plain = type(head) is nn.Linear or isinstance(head, SplitHead)
    is_plain = is_plain and facts_of(model.config).ends_in_its_head
    with _asked(head, labels, num_asked, z) if is_plain else contextlib.nullcontext():
        output = model(**inputs)
    if output[name].ndim > 0:
        output[name] = cross_entropy(output[name], labels, z=z)
    return output


@contextlib.contextmanager
def _asked(head: nn.Linear, labels: Tensor, num_asked: int | None, z: float) -> Iterator[None]:
    # The module itself answers: under sharding its weights are whole only while it runs.
    def forward(states: Tensor) -> Tensor:
        if isinstance(head, SplitHead):
            return _of_split_head(head, states, labels, num_asked, z)
        return head_cross_entropy(states, head.weight, head.bias, labels, z=z, num_asked=num_asked)

    head.forward = forward
    try:
        yield
    finally:
        del head.forward


def _of_split_head(head: SplitHead, states: Tensor, labels: Tensor, num_asked: int | None, z: float) -> Tensor:
    weight, bias, asked_N = head.weight, head.bias, places(labels, num_asked)
    assert isinstance(weight, DTensor) and (bias is None or isinstance(bias, DTensor))
    rows = rows_at_once(states.device, max(1, len(weight.to_local())))
    states_ND = states.reshape(-1, states.shape[-1]).index_select(0, asked_N)
    return split_cross_entropy(states_ND, weight, bias, labels.flatten().index_select(0, asked_N), z=z, rows=rows)
