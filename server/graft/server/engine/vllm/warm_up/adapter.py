"""Adapters to try out the engine with: a LoRA that changes nothing, and a soft prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from graft.adapters.base.base import Base
from graft.adapters.folder.adaptable import is_expert
from graft.adapters.folder.soft_prompt import MATRIX, PEFT_TYPES


def write_warm_up_adapter(folder: Path, base: Base) -> None:
    """PEFT's files of an adapter of rank 1 on the linear layers of `base` that have slots, all zeros."""
    in_blocks = {name: shape for name, shape in base.modules.items() if ".layers." in name or ".h." in name}
    modules = {name: shape for name, shape in in_blocks.items() if not is_expert(name)}
    tensors = {}
    for name, (num_outputs, num_inputs) in modules.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = np.zeros((1, num_inputs), np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = np.zeros((num_outputs, 1), np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 1,
        "lora_alpha": 1,
        "target_modules": sorted({name.rpartition(".")[2] for name in modules}),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_warm_up_soft_prompt(folder: Path, embeddings: Sequence[Sequence[float]]) -> None:
    """PEFT's files of a soft prompt of these virtual tokens."""
    save_file({MATRIX: np.array(embeddings, np.float32)}, folder / "adapter_model.safetensors")
    config = {"peft_type": PEFT_TYPES[0], "task_type": "CAUSAL_LM", "num_virtual_tokens": len(embeddings)}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
