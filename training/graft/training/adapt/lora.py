"""Adding LoRA matrices to a frozen base (Hu et al. 2022, arXiv:2106.09685), and writing them as PEFT files."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from graft.training.parallel.layout import Layout


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


def write_adapter(model: PeftModel, folder: Path, *, layout: Layout | None = None) -> None:
    """Writes ``adapter_config.json`` and ``adapter_model.safetensors``. Every process of a layout calls this, the first
    writes.
    """
    whole = whole_adapter(model)
    if layout is None or layout.is_first:
        save_adapter(model, whole, folder)


def whole_adapter(model: PeftModel) -> dict[str, Tensor]:
    """The trained matrices on the CPU, by their names. Where they are sharded, every process calls this."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: (one.full_tensor() if isinstance(one, DTensor) else one).detach().cpu() for name, one in trained.items()
    }


def save_adapter(model: PeftModel, whole: Mapping[str, Tensor], folder: Path) -> None:
    """Writes what ``whole_adapter`` gave."""
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False, state_dict=dict(whole))
    config = folder / "adapter_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    values["target_modules"].sort()  # peft writes a set; sorted, the same training gives the same file
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).chmod(0o644)
