"""The model card of a base that was trained on text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from graft.training.pretrain.assembly import Assembly

_PIPELINES = {"decoder": "text-generation", "encoder": "fill-mask", "encoder-decoder": "text2text-generation"}


def card(name: str, assembly: Assembly, model: nn.Module, metrics: Mapping[str, float]) -> str:
    """What it is, what it was trained on and how, and what it knows of held-out text."""
    settings = assembly.settings
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    texts = ", ".join(Path(path).name for path in settings.text)
    start = "from random weights" if settings.model is None else f"from {Path(settings.model).name}"
    lines = [
        "---",
        f"pipeline_tag: {_PIPELINES[assembly.family.kind]}",
        "library_name: transformers",
        "---",
        "",
        f"# {name}",
        "",
        f"A {assembly.family.name} of {num_parameters / 1e6:.1f} million parameters, trained by `graft pretrain` "
        f"{start} on {texts} with the objective `{assembly.objective_name}`, rows of {settings.max_length} tokens, "
        f"{settings.optim} at {settings.learning_rate:g}. Every setting, the digests of the data and the version of "
        "the code are in `training.json`.",
    ]
    if metrics and settings.validation is not None:
        told = {key: value for key, value in metrics.items() if key != "validation_overlap"}
        found = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in told.items())
        shared = metrics.get("validation_overlap", 0.0)
        known = f"of which {shared:.1%} stands in what it was trained on" if shared else "which it was not trained on"
        lines += ["", f"On {Path(settings.validation).name}, {known}: {found}."]
    return "\n".join(lines) + "\n"
