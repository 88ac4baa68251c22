"""Tensor parallelism by the model's own plan, in torch's DTensors."""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from transformers import PreTrainedModel

from graft.training.errors import ConfigurationError

_SUMMED = "replicated_with_grad_allreduce"


def _style(name: str) -> ParallelStyle | None:
    """torch's way of doing what Hugging Face's plan says; None for what needs no splitting."""
    styles: dict[str, ParallelStyle | None] = {
        "colwise": ColwiseParallel(),
        "rowwise": RowwiseParallel(),
        "colwise_gather_output": ColwiseParallel(output_layouts=Replicate()),
        "rowwise_split_input": RowwiseParallel(input_layouts=Replicate()),
        _SUMMED: None,
    }
    if name not in styles:
        raise ConfigurationError(f"the model's plan splits a layer by {name!r}, which this version does not know.")
    return styles[name]


def split_tensors(model: nn.Module, mesh: DeviceMesh) -> list[str]:
    """Splits the matrices of a model in place, and names the replicated parameters whose gradients are partial.

    The output head stays whole where it shares the embedding's weights.
    """
    assert isinstance(model, PreTrainedModel)
    base = model.base_model_prefix
    plan = {f"{base}.{pattern}": style for pattern, style in (model.config.base_model_tp_plan or {}).items()}
    summed = [pattern for pattern, style in plan.items() if style == _SUMMED]
    parallelize_module(model, mesh, {pattern: made for pattern, style in plan.items() if (made := _style(style))})
    return [name for name, _ in model.named_parameters() if any(_matches(name, pattern) for pattern in summed)]


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) > len(wanted) and all(w in ("*", p) for p, w in zip(parts, wanted, strict=False))
