"""The output head and its cross-entropy in one: logits exist for a few rows at a time, and only where one is asked for.

Their gradient is softmax − one-hot, so it is taken while the logits are there, and nothing of their size is kept (as in
Liger Kernel: Hsu et al. 2024, arXiv:2410.10989, §3.2). Legend: N asked tokens, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.training.model.family import facts_of
from graft.training.objective.logits import Logits, add_product, rows_at_once
from graft.training.objective.objective import cross_entropy, places
from graft.training.objective.sharded_head import SplitHead, SplitSoftmax
from graft.training.objective.softmax import SmoothedSoftmax, Softmax, WholeSoftmax


class _HeadCrossEntropy(torch.autograd.Function):
    """Of the labels, summed. The gradient of the states is the part that comes by the entries that are here."""

    @staticmethod
    def forward(
        context: Any,
        states_TD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        labels_N: Tensor,
        asked_N: Tensor | None,
        z: float,
        softmax: Softmax,
        rows: int,
    ) -> Tensor:
        learns_states, learns_weight, learns_bias = context.needs_input_grad[:3]
        states_grad = weight_grad = bias_grad = None
        if learns_states:
            states_grad = torch.empty_like(states_TD) if asked_N is None else torch.zeros_like(states_TD)
        if learns_weight:
            weight_grad = torch.zeros_like(weight_VD, dtype=torch.float32)
        if learns_bias:
            bias_grad = weight_VD.new_zeros(len(weight_VD), dtype=torch.float32)
        total = states_TD.new_zeros((), dtype=torch.float32)
        logits = Logits.of(states_TD, weight_VD, bias_V, min(rows, len(labels_N)))
        for own in parts(len(labels_N), rows):
            part_ND = asked_states(states_TD, asked_N, own)
            loss_N1, grad_NV = softmax.losses_and_gradient(logits(part_ND), labels_N[own, None], z, states_TD.dtype)
            total += loss_N1.sum()
            if states_grad is not None:
                _put(states_grad, asked_N, own, grad_NV @ weight_VD)
            if weight_grad is not None:
                add_product(weight_grad, grad_NV.T, part_ND)
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


def parts(num: int, rows: int) -> Iterator[slice]:
    return (slice(start, start + rows) for start in range(0, num, rows))


def asked_states(states_TD: Tensor, asked_N: Tensor | None, own: slice) -> Tensor:
    return states_TD[own] if asked_N is None else states_TD.index_select(0, asked_N[own])


def _put(all_TD: Tensor, asked_N: Tensor | None, own: slice, part_ND: Tensor) -> None:
    if asked_N is None:
        all_TD[own] = part_ND
    else:
        all_TD.index_copy_(0, asked_N[own], part_ND)


def head_cross_entropy(
    states: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    labels: Tensor,
    *,
    z: float = 0.0,
    smoothing: float = 0.0,
    num_asked: int | None = None,
    softmax: Softmax | None = None,
    num_entries: int | None = None,
) -> Tensor:
    """−log p of each label that is asked for, summed, in float32; with ``smoothing`` as ``SmoothedSoftmax`` has it,
    which needs the whole vocabulary. Shapes: (…, D) and (…).

    ``num_asked`` is their number: where it is known, a GPU need not be waited for. A vocabulary of which only some
    entries are here has a ``softmax`` of its own, and in no process more than ``num_entries``.
    """
    states_TD, labels_T = states.reshape(-1, states.shape[-1]), labels.flatten()
    asked_N = None if num_asked == len(labels_T) else places(labels_T, num_asked)
    labels_N = labels_T if asked_N is None else labels_T.index_select(0, asked_N)
    if smoothing:
        assert softmax is None, "labels are smoothed over a vocabulary that is all here"
        softmax = SmoothedSoftmax(smoothing=smoothing)
    softmax, rows = softmax or WholeSoftmax(), rows_at_once(states.device, num_entries or len(weight_VD))
    if torch.is_grad_enabled():
        total: Tensor = _HeadCrossEntropy.apply(states_TD, weight_VD, bias_V, labels_N, asked_N, z, softmax, rows)
        return total
    logits = Logits.of(states_TD, weight_VD, bias_V, min(rows, len(labels_N)))
    sums = [
        softmax.losses(logits(asked_states(states_TD, asked_N, own)), labels_N[own, None]).sum()
        for own in parts(len(labels_N), rows)
    ]
    return torch.stack(sums).sum() if sums else states.new_zeros((), dtype=torch.float32)


def labelled(
    model: nn.Module,
    labels: Tensor,
    *,
    num_asked: int | None = None,
    name: str = "logits",
    z: float = 0.0,
    smoothing: float = 0.0,
    **inputs: Any,
) -> Any:
    """The model's output for ``inputs``, with the summed cross-entropy of ``labels`` in place of its logits.

    ``num_asked`` labels are not ``IGNORED``, where that was counted before. ``name`` is the field of the output. A head
    that is no plain matrix, or whose logits may be changed behind it, computes them whole.
    """
    asked = {"labels": labels, "z": z, "smoothing": smoothing, "num_asked": num_asked}
    with answered(model, functools.partial(head_cross_entropy, **asked)):
        output = model(**inputs)
    if output[name].ndim > 0:
        output[name] = cross_entropy(output[name], labels, z=z, smoothing=smoothing)
    return output


@contextlib.contextmanager
def answered(model: nn.Module, answer: Callable[..., Tensor]) -> Iterator[None]:
    """The model's head gives ``answer(states, weight, bias, …)``, where it is a plain matrix with nothing behind it; of
    one along whose vocabulary processes are split with their ``softmax`` and ``num_entries``.
    """
    head = model.get_output_embeddings()
    is_plain = type(head) is nn.Linear or isinstance(head, SplitHead)
    if not (is_plain and facts_of(model.config).ends_in_its_head):
        yield
        return

    # The module itself answers: under sharding its weights are whole only while it runs.
    def forward(states: Tensor) -> Tensor:
        weight, bias, options = head.weight, head.bias, dict[str, Any]()
        if isinstance(head, SplitHead):
            assert isinstance(weight, DTensor) and (bias is None or isinstance(bias, DTensor))
            weight, bias = weight.to_local(), None if bias is None else bias.to_local()
            options = {"softmax": SplitSoftmax.of(head), "num_entries": head.num_entries}
        return answer(states, weight, bias, **options)

    head.forward = forward
    try:
        yield
    finally:
        del head.forward
