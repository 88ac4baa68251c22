"""A policy that is asked about answers, and the reference that it began as: the same model without its adapters.

Policy and reference share one base, so that a reference takes no memory (TRL does the same where a model has adapters).
Legend: S answers, N tokens that are asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from graft.training.batch.answers import AnswerBatch
from graft.training.objective.label_logprobs import label_logprobs
from graft.training.objective.masks import attention_inputs


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


@contextlib.contextmanager
def as_reference(model: Any) -> Iterator[None]:
    """A peft model without its adapters, any other model as it is; nothing in it learns meanwhile."""
    with read_only(model), model.disable_adapter() if hasattr(model, "disable_adapter") else contextlib.nullcontext():
        yield


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
