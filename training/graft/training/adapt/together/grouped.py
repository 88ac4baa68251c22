"""LoRA of several adapters on one layer's inputs, in which each token belongs to one of them: forward and backward.

What an adapter adds to its tokens is scale · B (A x) (Hu et al. 2022, arXiv:2106.09685, eq. 3), in the order and with
the roundings of peft's layers, so that an adapter is trained as it would be alone. Adapters of one rank with as many
tokens each, one behind the other, are multiplied at once (as in Punica's SGMV: Chen et al. 2023, arXiv:2310.18547).

Legend: T tokens of all adapters, t of one, G adapters of a stack, K inputs, N outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The tokens of an adapter, from ``start`` on."""

    start: int
    num_tokens: int
    rank: int
    scale: float
    dropped_TK: Tensor | None = None
    """What its inputs are multiplied by: 0 where they are left out. Shape: (t, K)."""

    @property
    def end(self) -> int:
        return self.start + self.num_tokens


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Adapters whose products are one: from ``first`` on among the segments."""

    first: int
    segments: Sequence[Segment]

    @property
    def tokens(self) -> slice:
        return slice(self.segments[0].start, self.segments[-1].end)

    @property
    def own(self) -> slice:
        return slice(self.first, self.first + len(self.segments))

    def split(self, all_TD: Tensor) -> Tensor:
        """This stack's tokens. Shape: (G, t, D)."""
        return all_TD[self.tokens].unflatten(0, (len(self.segments), -1))

    def scaled_(self, some_GtD: Tensor) -> Tensor:
        """Each adapter's part times its scale, in place."""
        scales = [one.scale for one in self.segments]
        if len(set(scales)) == 1:
            return some_GtD.mul_(scales[0])
        for part_tD, scale in zip(some_GtD, scales, strict=True):
            part_tD.mul_(scale)
        return some_GtD

    def dropped(self, some_GtK: Tensor) -> Tensor:
        """With what dropout leaves of it, of those adapters that have one."""
        masks = [one.dropped_TK for one in self.segments]
        if all(one is None for one in masks):
            return some_GtK
        parts = [part if mask is None else part * mask for part, mask in zip(some_GtK, masks, strict=True)]
        return torch.stack(parts)


def stacks(segments: Sequence[Segment]) -> list[Stack]:
    """Segments in the order of their tokens, as few products as that order allows."""
    found: list[Stack] = []
    for number, one in enumerate(segments):
        last = found[-1].segments[-1] if found else None
        if last is not None and (last.rank, last.num_tokens, last.end) == (one.rank, one.num_tokens, one.start):
            found[-1] = Stack(first=found[-1].first, segments=[*found[-1].segments, one])
        else:
            found.append(Stack(first=number, segments=[one]))
    return found


def added(x_TK: Tensor, segments: Sequence[Segment], a_RK: Sequence[Tensor], b_NR: Sequence[Tensor]) -> Tensor:
    """What the adapters add to the layer's outputs; 0 for tokens of none. One A and one B for each segment. Shape:
    (T, N).
    """
    found: Tensor = _Grouped.apply(x_TK, stacks(segments), *a_RK, *b_NR)
    return found


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x_TK: Tensor, stacks: Sequence[Stack], *weights: Tensor) -> Tensor:
        a_RK, b_NR = weights[: len(weights) // 2], weights[len(weights) // 2 :]
        are_all = len(stacks) == 1 and stacks[0].tokens == slice(0, len(x_TK))
        output_TN = None if are_all else x_TK.new_zeros(len(x_TK), len(b_NR[0]))
        kept: list[Tensor] = []
        for stack in stacks:
            a_GRK, b_GNR = _stacked(a_RK[stack.own]), _stacked(b_NR[stack.own])
            h_GtR = torch.bmm(stack.dropped(stack.split(x_TK)), a_GRK.mT)
            own_GtN = stack.scaled_(torch.bmm(h_GtR, b_GNR.mT))
            kept += (a_GRK, b_GNR, h_GtR)
            if output_TN is None:
                output_TN = own_GtN.flatten(0, 1)
            else:
                stack.split(output_TN).copy_(own_GtN)
        context.save_for_backward(x_TK, *kept)
        context.stacks = stacks
        return output_TN

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad_TN,) = gradients
        x_TK, *kept = context.saved_tensors
        stacks: Sequence[Stack] = context.stacks
        are_all = len(stacks) == 1 and stacks[0].tokens == slice(0, len(x_TK))
        x_grad = torch.zeros_like(x_TK) if context.needs_input_grad[0] and not are_all else None
        a_grads: list[Tensor] = []
        b_grads: list[Tensor] = []
        for stack, a_GRK, b_GNR, h_GtR in zip(stacks, kept[::3], kept[1::3], kept[2::3], strict=True):
            grad_GtN = stack.scaled_(stack.split(grad_TN).clone())
            b_grads += torch.bmm(grad_GtN.mT, h_GtR)
            h_grad = torch.bmm(grad_GtN, b_GNR)
            a_grads += torch.bmm(h_grad.mT, stack.dropped(stack.split(x_TK)))
            if context.needs_input_grad[0]:
                own_GtK = stack.dropped(torch.bmm(h_grad, a_GRK))
                if x_grad is None:
                    x_grad = own_GtK.flatten(0, 1)
                else:
                    stack.split(x_grad).copy_(own_GtK)
        return (x_grad, None, *a_grads, *b_grads)


def _stacked(some: Sequence[Tensor]) -> Tensor:
    return some[0].detach()[None] if len(some) == 1 else torch.stack(tuple(some))
