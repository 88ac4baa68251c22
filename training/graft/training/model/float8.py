"""Products in 8-bit numbers (Micikevicius et al. 2022, arXiv:2209.05433), by torchao; weights keep their type."""

from __future__ import annotations

import importlib.util

import torch
from torch import nn

from graft.training.model.blocks import blocks

LEAST = (8, 9)
"""Compute capability of the first GPUs that multiply so (Ada)."""


def reason_against_float8(device: str) -> str | None:
    """Why this machine cannot; None where it can."""
    if device != "cuda":
        return f"float8 needs a GPU, and this training computes on a {device.upper()}: leave it out"
    capability = torch.cuda.get_device_capability()
    if capability < LEAST:
        found, least = (".".join(map(str, one)) for one in (capability, LEAST))
        return f"float8 needs a GPU of compute capability {least}, and this one has {found}: leave it out"
    if importlib.util.find_spec("torchao") is None:
        return "float8 is done by torchao, which is not installed: pip install torchao, or leave it out"
    return None


def multiply_in_float8(model: nn.Module) -> None:
    """The linear layers of the blocks whose sizes the products take, multiples of 16."""
    from torchao.float8 import convert_to_float8_training  # an optional distribution

    for block in blocks(model):
        convert_to_float8_training(
            block, module_filter_fn=lambda layer, name: layer.in_features % 16 == 0 and layer.out_features % 16 == 0
        )
