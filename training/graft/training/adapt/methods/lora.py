"""LoRA (Hu et al. 2022, arXiv:2106.09685): a product of two narrow matrices beside each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from peft import LoraConfig, TaskType
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.base.hub_id import HubId
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Route
from graft.training.adapt.methods.through_peft import inject, save_adapter
from graft.training.adapt.settings import AdaptSettings


@dataclass(frozen=True, kw_only=True)
class Lora:
    """See ``Method``."""

    settings: AdaptSettings
    name: ClassVar[str] = "lora"
    route: ClassVar[Route] = Route.AS_IS

    def check(self, base: Adaptable) -> None:
        base.targets(self.settings.target_modules)

    def inject(self, model: PreTrainedModel, base: Adaptable, *, seed: int) -> nn.Module:
        settings, on_hub = self.settings, HubId.of_folder(base.base.path)
        torch.manual_seed(seed)
        config = LoraConfig(
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=list(base.targets(settings.target_modules)),
            use_rslora=settings.use_rslora,
            task_type=TaskType.CAUSAL_LM,
            revision=None if on_hub is None else on_hub.revision,
        )
        return inject(model, config, base_name=base.base.name)

    def save(self, model: nn.Module, whole: Mapping[str, Tensor], folder: Path) -> None:
        save_adapter(model, whole, folder)
