"""Where and what for a base attends that something is trained on."""

from __future__ import annotations

import torch
from torch import nn

from graft.training.adapt.settings import AdaptSettings
from graft.training.model.attention import varlen
from graft.training.objective.attending import Circumstances
from graft.training.objective.masks import decoder_of


def circumstances(settings: AdaptSettings, packs: bool, device: str) -> Circumstances:
    """``packs``: whether several rows may stand in one line. What is compiled would be so anew for other rows."""
    return Circumstances(
        device=device, dtype=torch.bfloat16, reads_documents=packs, learns_rows=packs and not settings.torch_compile
    )


def goes_by_documents(model: nn.Module, device: str) -> bool:
    """Whether on the CPU it costs the same how many rows stand in a line."""
    return device == "cpu" and decoder_of(model).config._attn_implementation == varlen.NAME
