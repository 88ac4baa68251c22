"""The output head with log p of each label by itself, where every one has a weight that is known only behind it: of an
answer's share in a loss of whole answers. No logits are kept.

The gradient of a label's log p at its own state, one-hot − softmax through the head, is taken while its logits are
there; its weight scales it on the way back. Only where the head itself learns are logits made again. Legend: T tokens,
N asked ones, D width, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from graft.training.objective.head import answered, asked_states, parts
from graft.training.objective.logits import Logits, add_product, rows_at_once
from graft.training.objective.objective import places
from graft.training.objective.softmax import Softmax, WholeSoftmax


class _HeadLogProbs(torch.autograd.Function):
    """Of each asked label, in float32."""

    @staticmethod
    def forward(
        context: Any,
        states_TD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        labels_N: Tensor,
        asked_N: Tensor,
        softmax: Softmax,
        rows: int,
    ) -> Tensor:
        context.head_learns = any(context.needs_input_grad[1:3])
        takes_gradient = context.needs_input_grad[0] and not context.head_learns
        context.softmax, context.rows, context.num_tokens = softmax, rows, len(states_TD)
        logits = Logits.of(states_TD, weight_VD, bias_V, min(rows, len(labels_N)))
        found_N = states_TD.new_empty(len(labels_N), dtype=torch.float32)
        grad_ND = states_TD.new_empty(len(labels_N) if takes_gradient else 0, states_TD.shape[1])
        for own in parts(len(labels_N), rows):
            own_NV = logits(asked_states(states_TD, asked_N, own))
            if takes_gradient:
                loss_N1, grad_NV = softmax.losses_and_gradient(own_NV, labels_N[own, None], 0.0, states_TD.dtype)
                torch.mm(grad_NV, weight_VD, out=grad_ND[own])
            else:
                loss_N1 = softmax.losses(own_NV, labels_N[own, None])
            found_N[own] = -loss_N1[:, 0]
        kept = (states_TD, weight_VD, bias_V, labels_N) if context.head_learns else (grad_ND,)
        context.save_for_backward(asked_N, *kept)
        return found_N

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (factor_N,) = gradients
        asked_N, *kept = context.saved_tensors
        weight_grad = bias_grad = None
        if context.head_learns:
            grad_ND, weight_grad, bias_grad = _made_again(context, asked_N, kept, factor_N)
        else:
            (grad_ND,) = kept
            grad_ND = grad_ND * -factor_N[:, None].to(grad_ND.dtype)
        states_grad = grad_ND.new_zeros(context.num_tokens, grad_ND.shape[1])
        states_grad.index_copy_(0, asked_N, grad_ND)
        return states_grad, weight_grad, bias_grad, None, None, None, None


def _made_again(
    context: Any, asked_N: Tensor, kept: Sequence[Any], factor_N: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradients of the asked states, of the weight and of the bias."""
    states_TD, weight_VD, bias_V, labels_N = kept
    logits = Logits.of(states_TD, weight_VD, bias_V, min(context.rows, len(labels_N)))
    grad_ND = states_TD.new_empty(len(labels_N), states_TD.shape[1])
    weight_grad = torch.zeros_like(weight_VD, dtype=torch.float32)
    bias_grad = None if bias_V is None else torch.zeros_like(bias_V, dtype=torch.float32)
    for own in parts(len(labels_N), context.rows):
        part_ND = asked_states(states_TD, asked_N, own)
        _, grad_NV = context.softmax.losses_and_gradient(logits(part_ND), labels_N[own, None], 0.0, states_TD.dtype)
        grad_NV *= -factor_N[own, None].to(grad_NV.dtype)
        torch.mm(grad_NV, weight_VD, out=grad_ND[own])
        add_product(weight_grad, grad_NV.T, part_ND)
        if bias_grad is not None:
            bias_grad += grad_NV.sum(0)
    return grad_ND, weight_grad.to(weight_VD.dtype), None if bias_grad is None else bias_grad.to(weight_VD.dtype)


def head_logprobs(
    states: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    labels: Tensor,
    *,
    num_asked: int | None = None,
    softmax: Softmax | None = None,
    num_entries: int | None = None,
) -> Tensor:
    """log p of each label that is asked for, in nats and their order. Shapes: (…, D) and (…); (N,).

    ``num_asked`` is N, where it was counted before; for the others see ``head_cross_entropy``.
    """
    states_TD, labels_T = states.reshape(-1, states.shape[-1]), labels.flatten()
    asked_N = places(labels_T, num_asked)
    softmax, rows = softmax or WholeSoftmax(), rows_at_once(states.device, num_entries or len(weight_VD))
    found: Tensor = _HeadLogProbs.apply(
        states_TD, weight_VD, bias_V, labels_T.index_select(0, asked_N), asked_N, softmax, rows
    )
    return found


def label_logprobs(model: nn.Module, labels: Tensor, *, num_asked: int | None = None, **inputs: Any) -> Tensor:
    """log p of each label that is asked for, as a model that is called with ``inputs`` finds it. Shape: (N,).

    A head that is no plain matrix, or whose logits may be changed behind it, computes them whole.
    """
    with answered(model, functools.partial(head_logprobs, labels=labels, num_asked=num_asked)):
        found: Tensor = model(**inputs).logits
    if found.ndim == 1:
        return found
    asked_N = places(labels, num_asked)
    logits_NV = found.flatten(0, -2).index_select(0, asked_N)
    return -functional.cross_entropy(logits_NV.float(), labels.flatten().index_select(0, asked_N), reduction="none")
