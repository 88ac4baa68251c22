"""Adding what peft trains to a frozen base, and writing it as PEFT's files."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel


def inject(model: PreTrainedModel, config: LoraConfig, *, base_name: str) -> PeftModel:
    """Adds trainable matrices in bfloat16, the precision they are served in; the optimizer keeps float32 masters of
    them. The targets must be layers of the base (see ``Adaptable``).
    """
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    # The base is known by name and digest; a path of this machine would mean nothing elsewhere.
    adapted.peft_config["default"].base_model_name_or_path = base_name
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    return adapted


def save_adapter(model: PeftModel, whole: Mapping[str, Tensor], folder: Path) -> None:
    """Writes ``adapter_config.json`` and ``adapter_model.safetensors``, which get the tensors of ``whole``."""
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False, state_dict=dict(whole))
    config = folder / "adapter_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    values["target_modules"].sort()  # peft writes a set; sorted, the same training gives the same file
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).chmod(0o644)
