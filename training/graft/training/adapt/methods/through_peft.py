"""A method of peft's: its configuration adds what learns to a frozen base, and it is written as PEFT's files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.base.hub_id import HubId
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Learning, Way

FILES = ("adapter_config.json", "adapter_model.safetensors")


Write = Callable[[PeftModel, Mapping[str, Tensor], Path], None]
"""What learned, into a folder: see ``Method.save``."""


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


def save_adapter(model: PeftModel, whole: Mapping[str, Tensor], folder: Path) -> None:
    """Writes ``adapter_config.json`` and ``adapter_model.safetensors``, which get the tensors of ``whole``."""
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False, state_dict=dict(whole))
    tidy(folder)


def tidy(folder: Path, **changed: Any) -> None:
    """Of what peft has written: the same training gives the same files, for everybody to read. ``changed`` are other
    values of the configuration.
    """
    config = folder / FILES[0]
    values = {**json.loads(config.read_text(encoding="utf-8")), **changed}
    if values.get("tokenizer_name_or_path") is not None:  # a folder of this machine
        values["tokenizer_name_or_path"] = values["base_model_name_or_path"]
    for name in ("target_modules", "feedforward_modules", "exclude_modules"):
        if isinstance(values.get(name), list):
            values[name].sort()  # peft writes sets
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    for name in FILES:
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
    write: Write = save_adapter

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

    def save(self, model: nn.Module, whole: Mapping[str, Tensor], folder: Path) -> None:
        self.write(model, whole, folder)
