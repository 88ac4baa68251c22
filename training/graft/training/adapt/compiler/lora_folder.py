"""Factors as the files of a LoRA adapter: the PEFT folder that a server takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from graft.adapters.base.base import Base
from graft.adapters.base.hub_id import HubId
from graft.adapters.folder.manifest import CONFIG_FILE, TENSOR_FILE
from graft.adapters.folder.plain_lora import plain_config
from graft.training.adapt.compiler.factors import Factors
from graft.training.adapt.compiler.peft_model import PREFIX


def write_lora(folder: Path, factors: Mapping[str, Factors], base: Base, *, layers: Collection[str]) -> None:
    """``factors`` by paths of the base's linear ``layers``."""
    ranks, on_hub = {path: one.rank for path, one in sorted(factors.items())}, HubId.of_folder(base.path)
    config = plain_config(ranks, layers=layers, base=base.name, revision=None if on_hub is None else on_hub.revision)
    (folder / CONFIG_FILE).write_bytes(config)
    save_file(lora_tensors(factors), folder / TENSOR_FILE, metadata={"format": "pt"})
    (folder / TENSOR_FILE).chmod(0o644)  # safetensors writes for the owner alone


def lora_tensors(factors: Mapping[str, Factors]) -> dict[str, Tensor]:
    """By peft's names, each pair in the narrowest type that holds its numbers as they are, float32 at most."""
    found = {}
    for path, one in factors.items():
        dtype = _narrowest(one.a_RI, one.b_OR)
        found[f"{PREFIX}{path}.lora_A.weight"] = one.a_RI.to(dtype).cpu().contiguous()
        found[f"{PREFIX}{path}.lora_B.weight"] = one.b_OR.to(dtype).cpu().contiguous()
    return found


def _narrowest(*tensors: Tensor) -> torch.dtype:
    is_exact = all(torch.equal(one.to(torch.bfloat16).to(one.dtype), one) for one in tensors)
    return torch.bfloat16 if is_exact else torch.float32
