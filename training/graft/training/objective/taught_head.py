"""A student's output head beside its teacher's: the logits of both exist for a few rows at a time, and the gradients of
the divergence and of the cross-entropy are taken while they are there (see ``head``).

Legend: T tokens, N asked tokens, D width, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from graft.training.objective.divergence import Divergence
from graft.training.objective.head import answered, asked_states, parts
from graft.training.objective.logits import Logits, add_product, rows_at_once
from graft.training.objective.objective import places
from graft.training.objective.softmax import WholeSoftmax

Rows = Callable[[slice], Tensor]
"""A teacher's logits of some of the asked tokens, in float32."""


@dataclass(frozen=True, kw_only=True)
class _Gradients:
    """Of one term; None for what does not learn."""

    states_TD: Tensor | None
    weight_VD: Tensor | None
    bias_V: Tensor | None

    @classmethod
    def zeros(cls, states_TD: Tensor, weight_VD: Tensor, learns: Sequence[bool]) -> Self:
        states, weight, bias = learns
        return cls(
            states_TD=torch.zeros_like(states_TD) if states else None,
            weight_VD=torch.zeros_like(weight_VD, dtype=torch.float32) if weight else None,
            bias_V=weight_VD.new_zeros(len(weight_VD), dtype=torch.float32) if bias else None,
        )

    @property
    def tensors(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        return self.states_TD, self.weight_VD, self.bias_V

    def add(self, grad_NV: Tensor, part_ND: Tensor, weight_VD: Tensor, at_N: Tensor) -> None:
        if self.states_TD is not None:
            self.states_TD.index_copy_(0, at_N, grad_NV @ weight_VD)
        if self.weight_VD is not None:
            add_product(self.weight_VD, grad_NV.T, part_ND)
        if self.bias_V is not None:
            self.bias_V.add_(grad_NV.sum(0))


class _TaughtHead(torch.autograd.Function):
    """Divergence and cross-entropy, summed. Shape: (2,)."""

    @staticmethod
    def forward(
        context: Any,
        states_TD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        labels_N: Tensor,
        asked_N: Tensor,
        teacher: Rows,
        divergence: Divergence,
    ) -> Tensor:
        learns = context.needs_input_grad[:3]
        rows, softmax = rows_at_once(states_TD.device, len(weight_VD)), WholeSoftmax()
        soft, hard = (_Gradients.zeros(states_TD, weight_VD, learns) for _ in range(2))
        total_2 = states_TD.new_zeros(2, dtype=torch.float32)
        logits = Logits.of(states_TD, weight_VD, bias_V, min(rows, len(labels_N)))
        for own in parts(len(labels_N), rows):
            part_ND = asked_states(states_TD, asked_N, own)
            own_NV = logits(part_ND)
            soft_N, soft_NV = divergence.losses_and_gradient(own_NV, teacher(own))
            hard_N1, hard_NV = softmax.losses_and_gradient(own_NV, labels_N[own, None], 0.0, states_TD.dtype)
            total_2 += torch.stack([soft_N.sum(), hard_N1.sum()])
            soft.add(soft_NV.to(states_TD.dtype), part_ND, weight_VD, asked_N[own])
            hard.add(hard_NV, part_ND, weight_VD, asked_N[own])
        context.save_for_backward(*soft.tensors, *hard.tensors)
        context.dtype = weight_VD.dtype
        return total_2

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (factor_2,) = gradients
        soft, hard = context.saved_tensors[:3], context.saved_tensors[3:]
        both = [
            None if one is None else (one * factor_2[0] + other * factor_2[1]).to(context.dtype)
            for one, other in zip(soft, hard, strict=True)
        ]
        return (*both, None, None, None, None)


def taught(
    model: nn.Module,
    teacher: Rows,
    labels: Tensor,
    *,
    num_asked: int,
    divergence: Divergence,
    **inputs: Any,
) -> Tensor:
    """The summed divergence from the teacher at each asked token, and the summed −log p of its label. Shape: (2,).

    A student whose head is no plain matrix, or whose logits may be changed behind it, computes them whole.
    """
    asked_N = places(labels, num_asked)
    labels_N = labels.flatten().index_select(0, asked_N)

    def answer(states: Tensor, weight_VD: Tensor, bias_V: Tensor | None, **split: Any) -> Tensor:
        assert not split, "a teacher is not split"
        states_TD = states.reshape(-1, states.shape[-1])
        found: Tensor = _TaughtHead.apply(states_TD, weight_VD, bias_V, labels_N, asked_N, teacher, divergence)
        return found

    with answered(model, answer):
        logits: Tensor = model(**inputs).logits
    if logits.ndim == 1:
        return logits
    student_NV = logits.flatten(0, -2).index_select(0, asked_N).float()
    soft_N = divergence.losses(student_NV, teacher(slice(None)))
    return torch.stack([soft_N.sum(), functional.cross_entropy(student_NV, labels_N, reduction="sum")])


@torch.no_grad()
def teaching(model: nn.Module, labels: Tensor, *, num_asked: int, inputs: Mapping[str, Any]) -> Rows:
    """What a teacher says at each asked token: of a plain head only states are kept."""
    asked_N = places(labels, num_asked)
    heads: list[Rows] = []

    def answer(states: Tensor, weight_VD: Tensor, bias_V: Tensor | None, **split: Any) -> Tensor:
        assert not split, "a teacher is not split"
        states_ND = states.reshape(-1, states.shape[-1]).index_select(0, asked_N)
        heads.append(functools.partial(_logits, states_ND, weight_VD, bias_V))
        return states.new_zeros(())

    with answered(model, answer):
        logits = model(**inputs).logits
    if heads:
        return heads[0]
    logits_NV = logits.flatten(0, -2).index_select(0, asked_N)
    return lambda own: logits_NV[own].float()


def _logits(states_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, own: slice) -> Tensor:
    part_ND = states_ND[own]
    return Logits.of(part_ND, weight_VD, bias_V, len(part_ND))(part_ND)
