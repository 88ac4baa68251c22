"""A method of peft's: its configuration adds what learns to a frozen base, and it is written as PEFT's files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.base.hub_id import HubId
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Learning, Way

FILES = ("adapter_config.json", "adapter_model.safetensors")


Pack = Callable[[PeftModel, Mapping[str, Tensor]], dict[str, bytes]]
"""What learned, as ``FILES``: see ``Method.save``."""


def inject(model: PreTrainedModel, config: PeftConfig, *, base_name: str) -> PeftModel:
    """Adds trainable tensors in the base's type, the precision they are served in; the optimizer keeps float32 masters
    of them. The targets must be layers of the base (see ``Targets``).
    """
    with warnings.catch_warnings():
        # That what learns is the head, too, is said by the method's way to a server.
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
        adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    # The base is known by name and digest; a path of this machine would mean nothing elsewhere.
    adapted.peft_config["default"].base_model_name_or_path = base_name
    for name, parameter in adapted.named_parameters():
        if ".ranknum." in name:  # peft lets a count of AdaLoRA's learn where it has to cast it
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            parameter.data = parameter.data.to(model.dtype)
    return adapted


def packed(model: PeftModel, whole: Mapping[str, Tensor]) -> dict[str, bytes]:
    """What peft's ``save_pretrained`` writes, in memory: ``FILES``, which get the tensors of ``whole``."""
    tensors = get_peft_model_state_dict(model, state_dict=dict(whole), save_embedding_layers=False)
    return as_files(tensors, model.peft_config["default"].to_dict())


def as_files(tensors: Mapping[str, Tensor], config: Mapping[str, Any], **changed: Any) -> dict[str, bytes]:
    """``FILES``: the same training gives the same bytes. ``changed`` are other values of the configuration."""
    values = {**config, "inference_mode": True, **changed}
    if values.get("tokenizer_name_or_path") is not None:  # a folder of this machine
        values["tokenizer_name_or_path"] = values["base_model_name_or_path"]
    for name, value in values.items():
        if isinstance(value, set) or (name in _UNORDERED and isinstance(value, list)):
            values[name] = sorted(value)
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    return {FILES[0]: text.encode(), FILES[1]: save(_apart(tensors), metadata={"format": "pt"})}


_UNORDERED = ("target_modules", "feedforward_modules", "exclude_modules")


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each in memory of its own, as the format has it."""
    found, seen = dict[str, Tensor](), set[int]()
    for name, one in tensors.items():
        found[name] = one.clone() if one.untyped_storage().data_ptr() in seen else one.contiguous()
        seen.add(one.untyped_storage().data_ptr())
    return found


def save_adapter(model: PeftModel, whole: Mapping[str, Tensor], folder: Path) -> None:
    """Writes ``packed``."""
    write_files(packed(model, whole), folder)


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes them for everybody to read."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o644)


class Add(Protocol):
    """See ``inject``."""

    def __call__(self, model: PreTrainedModel, config: PeftConfig, *, base_name: str) -> PeftModel: ...


@dataclass(frozen=True, kw_only=True)
class PeftMethod:
    """See ``Method``."""

    name: str
    uses: frozenset[str]
    configuration: Callable[[Adaptable], PeftConfig]
    """Raises ``ConfigurationError`` with everything that is wrong with the settings for a base."""
    way: Callable[[Adaptable], Way]
    packs: bool = True
    num_ahead: int = 0
    shards: bool = False
    shards_optimizer: bool = True
    add: Add = inject
    begin: Callable[[PeftModel], None] = lambda model: None
    """What is done to a model that was just made."""
    learning: Callable[[nn.Module, int], Learning] = lambda model, num_steps: Learning()
    fixed: Callable[[int], Mapping[str, str]] = lambda num_steps: {}
    pack: Pack = packed

    def check(self, base: Adaptable, form: ServingForm) -> None:
        self.configuration(base)

    def inject(self, model: PreTrainedModel, base: Adaptable, *, seed: int) -> nn.Module:
        config, on_hub = self.configuration(base), HubId.of_folder(base.path)
        config.task_type = TaskType.CAUSAL_LM
        config.revision = None if on_hub is None else on_hub.revision
        torch.manual_seed(seed)
        adapted = self.add(model, config, base_name=base.name)
        self.begin(adapted)
        return adapted

    def files(self, model: nn.Module, whole: Mapping[str, Tensor]) -> dict[str, bytes]:
        """What ``save`` writes."""
        return self.pack(model, whole)

    def save(self, model: nn.Module, whole: Mapping[str, Tensor], folder: Path) -> None:
        write_files(self.files(model, whole), folder)
