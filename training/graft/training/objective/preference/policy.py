"""A policy that is asked about answers, and the reference that it began as: the same model without its adapters.

Policy and reference share one base, so that a reference takes no memory (TRL does the same where a model has adapters).
Legend: S answers.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from graft.training.batch.answers import AnswerBatch
from graft.training.objective.label_logprobs import label_logprobs
from graft.training.objective.masks import attention_inputs


def answer_logprobs(model: nn.Module, answers: AnswerBatch) -> tuple[Tensor, Tensor]:
    """Σ log p of each answer's own tokens, and of all that are asked for with it, in nats. Shapes: (S,)."""
    packed = answers.packed
    logprob_N = label_logprobs(
        model,
        packed.labels_BL,
        num_asked=packed.num_labels,
        input_ids=packed.input_ids_BL,
        position_ids=packed.position_ids_BL,
        use_cache=False,
        **attention_inputs(model, packed),
    )
    return answers.sums(logprob_N)


@torch.no_grad()
def reference_logprobs(model: Any, answers: AnswerBatch) -> Tensor:
    """By a peft model without its adapters; by any other model as it is. Shape: (S,)."""
    with model.disable_adapter() if hasattr(model, "disable_adapter") else contextlib.nullcontext():
        found_S, _ = answer_logprobs(model, answers)
    return found_S
