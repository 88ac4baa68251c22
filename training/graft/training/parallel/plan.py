"""Hugging Face's plans of tensor parallelism: which of their words are understood. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

COLUMNS = {"colwise": False, "colwise_gather_output": True}
"""Layers that are split by their outputs, and whether all outputs are gathered."""
ROWS = {"rowwise": False, "rowwise_split_input": True}
"""Layers that are split by their inputs, and whether every process has all inputs."""
WHOLE = "replicated_with_grad_allreduce"
"""Layers that are not split, between such that are."""

EMBEDDING = "embedding_rowwise"
"""The embedding, where it is the output head as well: it is split whether the plan says it or not."""


def reasons_against(config: PretrainedConfig) -> Iterator[str]:
    """Why the plan of an architecture cannot be carried out."""
    plan = config.base_model_tp_plan or {}
    if not plan:
        yield f"a {config.model_type} has no plan of tensor parallelism"
    for pattern, style in plan.items():
        if style not in (*COLUMNS, *ROWS, WHOLE, EMBEDDING):
            yield f"the plan of a {config.model_type} splits {pattern} by {style!r}, which this version does not know"
