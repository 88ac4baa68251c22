"""Adding LoRA matrices to a frozen base (Hu et al. 2022, arXiv:2106.09685), and writing them as PEFT files."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from graft.training.parallel.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Lora:
    """The shape of an adapter."""

    r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: tuple[str, ...]
    """Names of linear layers, or the last parts of them."""
    use_rslora: bool


def inject(model: PreTrainedModel, lora: Lora, *, base_name: str) -> PeftModel:
    """Adds trainable matrices in bfloat16, the precision they are served in; the optimizer keeps float32 masters of
    them. The targets must be layers of the base (see ``Adaptable``).
    """
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=list(lora.target_modules),
        use_rslora=lora.use_rslora,
        task_type=TaskType.CAUSAL_LM,
    )
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
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    whole = {
        name: (one.full_tensor() if isinstance(one, DTensor) else one).detach().cpu() for name, one in trained.items()
    }
    if layout is not None and not layout.is_first:
        return
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False, state_dict=whole)
    config = folder / "adapter_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    values["target_modules"].sort()  # peft writes a set; sorted, the same training gives the same file
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).chmod(0o644)
