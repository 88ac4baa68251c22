"""Bases of every family with random weights, as small as all forms allow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from graft.training.job.export import write_base
from graft.training.model.family import FAMILIES, Size
from graft.training.model.loading import parts
from graft.training.objective.catalog import build
from graft.training.rootstock.tokenizer import build_tokenizer

WEIGHTS = "model.safetensors"


def make_base(name: str, folder: Path, *, num_heads: int = 4) -> Path:
    """Two layers of width 128 in bfloat16; by default with heads of 32, the narrowest that the engine takes."""
    torch.manual_seed(0)
    size = Size(width=128, num_layers=2, num_heads=num_heads, feed_forward=256, length=128, num_experts=4)
    tokenizer = build_tokenizer(256)
    model = list(parts(build(FAMILIES[name], FAMILIES[name].objectives[0], size, tokenizer)).values())[-1]
    write_base(model.to(torch.bfloat16), tokenizer, folder, card=f"# {name}\n")
    return folder


def save_by_transformers(base: Path, folder: Path, **bitsandbytes: Any) -> Path:
    """The base as transformers saves it after loading it with a `BitsAndBytesConfig` of these values."""
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16, quantization_config=BitsAndBytesConfig(**bitsandbytes), local_files_only=True
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(folder)
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Rewrite the tensors of a base's only file."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def change_config(folder: Path, **values: object) -> None:
    """Set values of config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
