"""A frozen layer with LoRA adapters beside it, in which each token belongs to one of them: forward and backward.

x Wᵀ + scale · (x Aᵀ) Bᵀ (Hu et al. 2022, arXiv:2106.09685, eq. 3). What adapters add is added by their last product
itself, before anything is rounded: beside narrow matrices it is the passes over whole layers' outputs that cost. A
training alone and several together compute the same numbers, since each row of a product is computed by itself.

Legend: see ``segments``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graft.training.adapt.beside.frozen import Frozen, computing
from graft.training.adapt.beside.segments import Segment, Stack, stacks


def with_adapters(
    x_TK: Tensor,
    base: Frozen | Tensor,
    segments: Sequence[Segment],
    a_RK: Sequence[Tensor],
    b_NR: Sequence[Tensor],
) -> Tensor:
    """The layer's outputs, with what adapters add to their tokens. ``base`` is its matrix, or what it has given by
    itself. One A and one B for each segment. Shape: (T, N).
    """
    given_TN, frozen = (None, base) if isinstance(base, Frozen) else (base, None)
    found: Tensor = _Adapted.apply(x_TK, given_TN, frozen, stacks(segments), *a_RK, *b_NR)
    return found


class _Adapted(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        x_TK: Tensor,
        given_TN: Tensor | None,
        frozen: Frozen | None,
        stacks: Sequence[Stack],
        *weights: Tensor,
    ) -> Tensor:
        a_RK, b_NR = weights[: len(weights) // 2], weights[len(weights) // 2 :]
        dtype = computing(x_TK.dtype, x_TK.device)
        own_TK = x_TK.to(dtype)
        output_TN = given_TN.to(dtype, copy=True) if given_TN is not None else _base(own_TK, frozen)
        kept: list[Tensor] = []
        for stack in stacks:
            a_GRK, b_GNR = _stacked(a_RK[stack.own], dtype), _stacked(b_NR[stack.own], dtype)
            h_GtR = stack.scaled_(torch.bmm(stack.dropped(stack.split(own_TK)), a_GRK.mT))
            stack.split(output_TN).baddbmm_(h_GtR, b_GNR.mT)
            kept += (a_GRK, b_GNR, h_GtR)
        context.save_for_backward(x_TK, *kept)
        context.stacks, context.frozen, context.dtypes = stacks, frozen, (a_RK[0].dtype, b_NR[0].dtype)
        return output_TN.to(x_TK.dtype if given_TN is None else given_TN.dtype)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad_TN,) = gradients
        stacks: Sequence[Stack] = context.stacks
        x_TK, *kept = context.saved_tensors
        a_dtype, b_dtype = context.dtypes
        dtype = computing(x_TK.dtype, x_TK.device)
        own_TN, own_TK = grad_TN.to(dtype), x_TK.to(dtype)
        x_grad = _inputs_gradient(own_TN, context.frozen, own_TK) if context.needs_input_grad[0] else None
        a_grads: list[Tensor] = []
        b_grads: list[Tensor] = []
        for stack, a_GRK, b_GNR, h_GtR in zip(stacks, kept[::3], kept[1::3], kept[2::3], strict=True):
            grad_GtN = stack.split(own_TN)
            h_grad = stack.scaled_(torch.bmm(grad_GtN, b_GNR))
            b_grads += torch.bmm(grad_GtN.mT, h_GtR).to(b_dtype)
            a_grads += torch.bmm(h_grad.mT, stack.dropped(stack.split(own_TK))).to(a_dtype)
            if x_grad is not None:
                _add(stack, x_grad, h_grad, a_GRK)
        given_grad = grad_TN if context.needs_input_grad[1] else None
        return (None if x_grad is None else x_grad.to(x_TK.dtype), given_grad, None, None, *a_grads, *b_grads)


def _add(stack: Stack, x_grad: Tensor, h_grad: Tensor, a_GRK: Tensor) -> None:
    """What comes by the adapters."""
    own_GtK = stack.split(x_grad)
    if stack.has_dropout:
        own_GtK.add_(stack.dropped(torch.bmm(h_grad, a_GRK)))
    else:
        own_GtK.baddbmm_(h_grad, a_GRK)


def _base(x_TK: Tensor, frozen: Frozen | None) -> Tensor:
    assert frozen is not None
    output_TN = x_TK.new_empty(len(x_TK), frozen.num_outputs)
    for own, weight_NK in frozen.parts(x_TK.dtype):
        torch.mm(x_TK, weight_NK.T, out=output_TN[:, own])
    return output_TN if frozen.bias_N is None else output_TN.add_(frozen.bias_N)


def _inputs_gradient(grad_TN: Tensor, frozen: Frozen | None, x_TK: Tensor) -> Tensor:
    """What comes by the frozen matrix; 0 where that is the layer's own affair."""
    if frozen is None:
        return torch.zeros_like(x_TK)
    found: Tensor | None = None
    for own, weight_NK in frozen.parts(grad_TN.dtype):
        part_TN = grad_TN[:, own]
        found = torch.mm(part_TN, weight_NK) if found is None else found.addmm_(part_TN, weight_NK)
    assert found is not None
    return found


def _stacked(some: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Shape: (G, …)."""
    return torch.stack(tuple(one.detach() for one in some)).to(dtype)
