"""The output head and its cross-entropy in one: logits exist for a few rows at a time, and only where one is asked for.

Their gradient is softmax − one-hot, so it is taken while the logits are there, and nothing of their size is kept (as in
Liger Kernel: Hsu et al. 2024, arXiv:2410.10989, §3.2). Legend: N asked tokens, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.training.batch.packing import IGNORED
from graft.training.model.family import facts_of
from graft.training.objective.objective import cross_entropy

CHUNK_ELEMENTS = 1 << 22
"""Logits at a time: 16 MB of float32."""


class _HeadCrossEntropy(torch.autograd.Function):
    """Σ −log p of the labels, + z · Σ log² Z (PaLM: Chowdhery et al. 2022, arXiv:2204.02311, §5)."""

    @staticmethod
    def forward(
        context: Any, states_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, labels_N: Tensor, z: float
    ) -> Tensor:
        learns_weight, learns_bias = context.needs_input_grad[1:3]
        total = states_ND.new_zeros((), dtype=torch.float32)
        states_grad = torch.empty_like(states_ND)
        weight_grad = torch.zeros_like(weight_VD, dtype=torch.float32) if learns_weight else None
        bias_grad = torch.zeros_like(weight_VD[:, 0], dtype=torch.float32) if learns_bias else None
        rows = max(1, CHUNK_ELEMENTS // weight_VD.shape[0])
        # Fresh memory costs more than what is computed in it: one place serves for all parts.
        room_NV = states_ND.new_empty(min(rows, len(labels_N)), weight_VD.shape[0], dtype=torch.float32)
        for start in range(0, len(labels_N), rows):
            part_ND, asked_N = states_ND[start : start + rows], labels_N[start : start + rows, None]
            logits_NV = room_NV[: len(part_ND)].copy_(nn.functional.linear(part_ND, weight_VD, bias_V))
            asked_logit_N, highest_N = logits_NV.gather(1, asked_N), logits_NV.amax(-1, keepdim=True)
            grad_NV = logits_NV.sub_(highest_N).exp_()
            sum_N = grad_NV.sum(-1, keepdim=True)
            grad_NV /= sum_N
            log_z_N = highest_N + sum_N.log()
            total += (log_z_N - asked_logit_N).sum()
            if z:
                total += z * log_z_N.square().sum()
                grad_NV *= 1 + 2 * z * log_z_N
            grad_NV.scatter_add_(1, asked_N, grad_NV.new_full((1, 1), -1.0).expand_as(asked_N))
            grad_NV = grad_NV.to(part_ND.dtype)
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
        states_grad, weight_grad, bias_grad = context.saved_tensors
        scaled = [
            None if one is None else one.mul_(factor).to(context.dtype) for one in (states_grad, weight_grad, bias_grad)
        ]
        return (*scaled, None, None)


def head_cross_entropy(
    states: Tensor, weight_VD: Tensor, bias_V: Tensor | None, labels: Tensor, *, z: float = 0.0
) -> Tensor:
    """−log p of each label that is asked for, summed, in float32. Shapes: (…, D) and (…)."""
    asked = labels != IGNORED
    if torch.is_grad_enabled():
        total: Tensor = _HeadCrossEntropy.apply(states[asked], weight_VD, bias_V, labels[asked], z)
        return total
    rows = max(1, CHUNK_ELEMENTS // weight_VD.shape[0])
    parts = zip(states[asked].split(rows), labels[asked].split(rows), strict=True)
    sums = [cross_entropy(nn.functional.linear(some, weight_VD, bias_V), own) for some, own in parts]
    return torch.stack(sums).sum() if sums else states.new_zeros((), dtype=torch.float32)


def labelled(model: nn.Module, labels: Tensor, *, name: str = "logits", z: float = 0.0, **inputs: Any) -> Any:
    """The model's output for ``inputs``, with the summed cross-entropy of ``labels`` in place of its logits.

    ``name`` is the field of the output. A head that is no plain matrix, or whose logits may be changed behind it,
    computes them whole.
    """
    head = model.get_output_embeddings()
    is_plain = type(head) is nn.Linear and facts_of(model.config).ends_in_its_head
    with _asked(head, labels, z) if is_plain else contextlib.nullcontext():
        output = model(**inputs)
    if output[name].ndim > 0:
        output[name] = cross_entropy(output[name], labels, z=z)
    return output


@contextlib.contextmanager
def _asked(head: nn.Linear, labels: Tensor, z: float) -> Iterator[None]:
    # The module itself answers: under sharding its weights are whole only while it runs.
    def forward(states: Tensor) -> Tensor:
        if isinstance(head.weight, DTensor):  # split by columns
            return nn.functional.linear(states, head.weight, head.bias)
        return head_cross_entropy(states, head.weight, head.bias, labels, z=z)

    head.forward = forward
    try:
        yield
    finally:
        del head.forward
