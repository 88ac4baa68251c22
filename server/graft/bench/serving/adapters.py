"""Random adapters with a small but real effect, written as PEFT folders."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from graft.adapters.adapter import Lineage
from graft.adapters.base.base import Base
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm

RANK = 16
# Strong enough to change some greedy choices, weak enough to stay a perturbation.
_EFFECT = 0.01
_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"


def make_adapter(base: Base, folder: Path, *, seed: int) -> Path:
    """Rank 16 in fp32 on every linear layer but the output head (19 MB for SmolLM2-135M); kept if it is there."""
    if (folder / _CONFIG).exists():
        return folder
    import numpy as np
    from safetensors.numpy import save_file

    chance = np.random.default_rng(seed)
    tensors, modules = {}, _modules(base)
    for module, (outputs, inputs) in modules.items():
        name = f"base_model.model.{module}"
        tensors[f"{name}.lora_A.weight"] = chance.normal(0, inputs**-0.5, (RANK, inputs)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = chance.normal(0, _EFFECT, (outputs, RANK)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / _TENSORS, metadata={"format": "pt"})
    _write_config(folder, sorted({module.rpartition(".")[2] for module in modules}), alpha=float(RANK))
    return folder


def make_adapters(base: Base, folder: Path, number: int) -> list[Path]:
    """Adapters 0, 1, …: each with weights of its own."""
    return [make_adapter(base, folder / f"adapter-{seed}", seed=seed) for seed in range(number)]


def make_variants(originals: list[Path], folder: Path, number: int) -> list[Path]:
    """`number` different adapters that share the originals' weights on disk and differ in `lora_alpha`.

    To server and engine each is a version of its own, with a digest, a slot and a cache of its own.
    """
    variants = []
    for index in range(number):
        original, variant = originals[index % len(originals)], folder / f"variant-{index}"
        if not (variant / _CONFIG).exists():
            variant.mkdir(parents=True, exist_ok=True)
            os.link(original / _TENSORS, variant / _TENSORS)
            config = json.loads((original / _CONFIG).read_text(encoding="utf-8"))
            _write_config(variant, config["target_modules"], alpha=RANK * (1 + index / 10_000))
        variants.append(variant)
    return variants


def add_training_record(base: Base, form: ServingForm, folder: Path) -> None:
    """The `graft.json` that a trainer writes, so that the server takes the adapter for one trained on this base."""
    lineage = Lineage(job="bench", data_digest=None, code_version=None, seed=0)
    TrainedRecord(base=base.identity, form=form, lineage=lineage).write(folder)


def size_mb(folder: Path) -> float:
    """Size of the weights in units of 10⁶ bytes."""
    return (folder / _TENSORS).stat().st_size / 1e6


def _modules(base: Base) -> dict[str, tuple[int, int]]:
    return {module: shape for module, shape in base.modules.items() if not module.endswith("lm_head")}


def _write_config(folder: Path, targets: list[str], *, alpha: float) -> None:
    config: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": alpha}
    config |= {"target_modules": targets, "bias": "none", "lora_dropout": 0.0}
    # The configuration comes last: a folder that has one is complete.
    (folder / _CONFIG).write_text(json.dumps(config), encoding="utf-8")
