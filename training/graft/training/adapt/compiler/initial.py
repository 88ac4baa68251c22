"""The adapter with which a training of PiSSA, OLoRA or their kin began, and by which it lessened the base's weights
(Meng et al. 2024, arXiv:2404.02948, section 3): what it learned is the difference of both.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from torch import Tensor

from graft.training.adapt.compiler.closed_forms import closed_form
from graft.training.adapt.compiler.factors import Factors
from graft.training.adapt.compiler.peft_model import fill, layers_of
from graft.training.errors import ConfigurationError

_FOUND_AGAIN = ("pissa", "olora")
"""Made of the base's weights alone, without chance."""
_LESSENING = ("pissa", "olora", "loftq", "corda", "lora_ga")


@dataclass(frozen=True, kw_only=True)
class Initial:
    """``tensors`` as the trainer saved them; None where peft makes them again, as it did then."""

    tensors: Mapping[str, Tensor] | None

    @classmethod
    def of(cls, config: PeftConfig, saved: Path | None, tensors: Mapping[str, Tensor] | None) -> Initial | None:
        """None where the base's weights are as they were. ``tensors`` are those of the folder ``saved``.

        Raises ``ConfigurationError`` where the initial adapter is not known, or there is none.
        """
        kind = str(getattr(config, "init_lora_weights", True)).lower()
        lessens = kind.startswith(_LESSENING)
        if not lessens and saved is not None:
            raise ConfigurationError(f"--initial {saved}: init_lora_weights is {kind}, which leaves the base as it is.")
        if not lessens:
            return None
        if tensors is None and kind not in _FOUND_AGAIN:
            raise ConfigurationError(
                f"init_lora_weights is {kind}: it was trained on a base of its own, and what that lacks is not in the "
                "folder. Give the adapter as it was before the first step with --initial FOLDER."
            )
        return cls(tensors=tensors)

    def config(self, config: PeftConfig) -> PeftConfig:
        """With which a model is made: one whose initial adapter was saved is made without lessening the base."""
        if self.tensors is None:
            return config
        plain = copy.deepcopy(config)
        plain.init_lora_weights = True
        return plain

    @torch.no_grad()
    def taken_from(self, model: PeftModel) -> dict[str, Factors]:
        """What each layer lacks in a model that was just made; what peft did not take from it is taken here."""
        if self.tensors is not None:
            fill(model, self.tensors)
        found = {}
        for path, layer in layers_of(model):
            factors = closed_form(layer)
            if factors is None:
                raise ConfigurationError(f"{path} has no closed form, so what the base lacks is not known.")
            found[path] = factors
            if self.tensors is not None:
                weight = layer.get_base_layer().weight
                weight -= factors.product().to(weight)
        return found
