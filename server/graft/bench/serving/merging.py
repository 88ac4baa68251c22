"""A base with an adapter added into its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def merge(base: Path, adapter: Path, target: Path) -> Path:
    """Write `base + scale·B·A` to `target`, everything else as it was. The sums are made in fp32."""
    import torch
    from safetensors.torch import load_file, save_file

    if (target / "config.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    update = load_file(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    scale = config["lora_alpha"] / config["r"]
    for file in sorted(base.glob("*.safetensors")):
        weights = load_file(file)
        for name, weight in weights.items():
            key = f"base_model.model.{name.removesuffix('.weight')}"
            if f"{key}.lora_A.weight" in update:
                change = update[f"{key}.lora_B.weight"].float() @ update[f"{key}.lora_A.weight"].float()
                weights[name] = (weight.float() + scale * change).to(torch.bfloat16)
        save_file(weights, target / file.name, metadata={"format": "pt"})
    for file in base.iterdir():
        if file.is_file() and file.suffix in (".json", ".jinja") and file.name != "config.json":
            shutil.copy(file, target)
    # The configuration comes last: a folder that has one is complete.
    shutil.copy(base / "config.json", target)
    return target
