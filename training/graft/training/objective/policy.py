"""A policy that is asked about answers, and the reference that it began as: the same model without its adapters, or
with those that it went on from.

Policy and reference share one base, so that a reference takes no memory (TRL does the same where a model has adapters)
but for what a start's own weights take.
Legend: S answers, N tokens that are asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graft.training.batch.answers import AnswerBatch
from graft.training.objective.label_logprobs import label_logprobs
from graft.training.objective.masks import attention_inputs

_BEGAN = "_graft_began"


def token_logprobs(model: nn.Module, answers: AnswerBatch) -> Tensor:
    """log p of each token that is asked for, in nats, as they lie. Shape: (N,)."""
    packed = answers.packed
    return label_logprobs(
        model,
        packed.labels_BL,
        num_asked=packed.num_labels,
        input_ids=packed.input_ids_BL,
        position_ids=packed.position_ids_BL,
        use_cache=False,
        **attention_inputs(model, packed),
    )


def answer_logprobs(model: nn.Module, answers: AnswerBatch) -> tuple[Tensor, Tensor]:
    """Σ log p of each answer's own tokens, and of all that are asked for with it, in nats. Shapes: (S,)."""
    return answers.sums(token_logprobs(model, answers))


def reference_logprobs(model: Any, answers: AnswerBatch) -> Tensor:
    """By the reference, of each answer. Without a gradient. Shape: (S,)."""
    with as_reference(model):
        found_S, _ = answer_logprobs(model, answers)
    return found_S.detach()


def begin_as(model: nn.Module) -> None:
    """What learns in it now is its reference from now on: of one that goes on from an adapter the base is none."""
    began = {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}
    object.__setattr__(model, _BEGAN, began)


@contextlib.contextmanager
def as_reference(model: Any) -> Iterator[None]:
    """A model as it began (see `begin_as`); else a peft model without its adapters, any other as it is. Nothing in it
    learns meanwhile.
    """
    began: Mapping[str, Tensor] | None = getattr(model, _BEGAN, None)
    if began is not None:
        changed: contextlib.AbstractContextManager[None] = _with_values(model, began)
    else:
        changed = model.disable_adapter() if hasattr(model, "disable_adapter") else contextlib.nullcontext()
    with read_only(model), changed:
        yield


@contextlib.contextmanager
def _with_values(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Each parameter has the value of its name, in the storage that it has."""
    there = [(one, values[name]) for name, one in model.named_parameters() if name in values]
    before = [one.detach().clone() for one, _ in there]
    with torch.no_grad():
        for one, value in there:
            one.copy_(value)
    try:
        yield
    finally:
        with torch.no_grad():
            for (one, _), value in zip(there, before, strict=True):
                one.copy_(value)


@contextlib.contextmanager
def read_only(model: nn.Module) -> Iterator[None]:
    """Nothing in it learns meanwhile, so that nothing is kept for a way back.

    In place of ``no_grad``, where other kernels compute (attention on CPUs): their rounding alone would part a policy
    from its reference by a nat an answer, before its first step.
    """
    learning = [one for one in model.parameters() if one.requires_grad]
    for one in learning:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in learning:
            one.requires_grad_(True)
