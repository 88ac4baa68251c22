"""What the engine tests make: settings, and adapters with a strong, known effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from graft.adapters.base import Base
from graft.adapters.form import ServingForm
from graft.server.engine.vllm_environment import EngineSettings


def engine_settings(base: Base, **changes: object) -> EngineSettings:
    # As many slots as adapters: stock vLLM answers rows of the base from the *last* slot, so it must be filled.
    defaults = {"form": ServingForm.FP32, "num_slots": 4, "max_rank": 64, "max_running": 32}
    return EngineSettings(base_path=base.path, base_name=base.name, **{**defaults, **changes})  # type: ignore[arg-type]


def write_adapter(folder: Path, modules: Mapping[str, tuple[int, int]], *, rank: int, seed: int) -> Path:
    """A PEFT folder with random weights on every given module, large enough to change what is said."""
    random = np.random.default_rng(seed)
    tensors = {}
    for module, (outputs, inputs) in modules.items():
        name = f"base_model.model.{module}"
        tensors[f"{name}.lora_A.weight"] = random.normal(0, inputs**-0.5, (rank, inputs)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = random.normal(0, 0.25, (outputs, rank)).astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    targets = sorted({module.rpartition(".")[2] for module in modules})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "bias": "none", "lora_dropout": 0.0}))
    return folder
