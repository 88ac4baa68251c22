"""Bottleneck adapters: a narrow network behind a sublayer, added to what it computes. Houlsby et al. 2019
(arXiv:1902.00751, figure 2) put one behind attention and one behind the feed-forward layer of each block, Pfeiffer et
al. 2020 (arXiv:2005.00247, section 3.1) one behind the feed-forward layer.

peft has none. Written in its manner: ``adapter_config.json`` with the ``peft_type`` ``BOTTLENECK``, and
``adapter_model.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Learning, Method, Route, Way
from graft.training.adapt.methods.lora import LAYERS
from graft.training.adapt.methods.through_peft import FILES, as_files, write_files
from graft.training.adapt.settings import AdaptSettings
from graft.training.adapt.targets import Targets
from graft.training.errors import ConfigurationError

PEFT_TYPE = "BOTTLENECK"
ATTENTION = ("o_proj", "out_proj", "attention.dense", "attn.dense")
"""By family: what ends the attention of a block, and what ends its feed-forward layer."""
FEEDFORWARD = ("down_proj", "fc2", "fc_out", "dense_4h_to_h", "w2")
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
}
_PREFIX = "base_model.model."
"""Before a path of the base, as peft writes it."""


class Bottleneck(nn.Module):
    """y + up(act(down(y))) of what a layer computes. What is added is zero at first."""

    def __init__(self, base_layer: nn.Module, width: int, size: int, act: str, *, like: Tensor) -> None:
        super().__init__()
        options: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.base_layer = base_layer
        self.adapter_down = nn.Linear(width, size, **options)
        self.adapter_up = nn.Linear(size, width, **options)
        self._act = _ACTIVATIONS[act]
        self.is_on = True
        nn.init.normal_(self.adapter_down.weight, std=0.01)  # section 3.6 of Houlsby et al.: nearly nothing at first
        for zero in (self.adapter_down.bias, self.adapter_up.weight, self.adapter_up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base_layer(x)
        return y + self.adapter_up(self._act(self.adapter_down(y))) if self.is_on else y


@dataclass(frozen=True, kw_only=True)
class BottleneckMethod:
    """See ``Method``."""

    name: str
    settings: AdaptSettings
    places: tuple[str, ...]
    """Ends of the paths of layers that an adapter stands behind, by default."""
    uses: frozenset[str] = LAYERS | {"reduction_factor", "adapter_act"}
    packs: bool = True
    num_ahead: int = 0
    shards: bool = False
    shards_optimizer: bool = True

    def check(self, base: Adaptable, form: ServingForm) -> None:
        self._targets(base)

    def way(self, base: Adaptable) -> Way:
        why = "what it adds is no matrix, and no engine computes it; lora and its kind are served"
        return Way(route=Route.NONE, why=why)

    def fixed(self, num_steps: int) -> Mapping[str, str]:
        return {}

    def inject(self, model: PreTrainedModel, base: Adaptable, *, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        targets = self._targets(base)
        config = {
            "peft_type": PEFT_TYPE,
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base.name,
            "inference_mode": True,
            "kind": self.name,
            "target_modules": list(targets.paths),
            "sizes": [self._size(base.layers[path][0]) for path in targets.paths],
            "adapter_act": self.settings.adapter_act,
        }
        return put_in(model, config)

    def learning(self, model: nn.Module, num_steps: int) -> Learning:
        return Learning()

    def save(self, model: nn.Module, whole: Mapping[str, Tensor], folder: Path) -> None:
        write_files(as_files({_PREFIX + name: one for name, one in whole.items()}, model.bottleneck_config), folder)

    def _targets(self, base: Adaptable) -> Targets:
        paths = [path for path in base.layers if path.endswith(self.places)]
        if not paths and self.settings.target_modules is None:
            raise ConfigurationError(
                f"{self.name} knows no layer that ends a sublayer of a {base.model_type}: name them in target_modules. "
                f"Its linear layers are {', '.join(base.names)}."
            )
        return Targets.of(base, self.settings, default=tuple(sorted({path.rpartition(".")[2] for path in paths})))

    def _size(self, width: int) -> int:
        return max(1, round(width / self.settings.reduction_factor))


def houlsby(settings: AdaptSettings) -> Method:
    return BottleneckMethod(name="houlsby", settings=settings, places=(*ATTENTION, *FEEDFORWARD))


def pfeiffer(settings: AdaptSettings) -> Method:
    return BottleneckMethod(name="pfeiffer", settings=settings, places=FEEDFORWARD)


def put_in(model: PreTrainedModel, config: Mapping[str, Any]) -> PreTrainedModel:
    """Adapters of a configuration, behind its layers; the base is frozen."""
    model.requires_grad_(False)
    like = model.get_input_embeddings().weight
    for path, size in zip(config["target_modules"], config["sizes"], strict=True):
        parent, _, name = path.rpartition(".")
        layer = model.get_submodule(path)
        width = layer.out_features
        setattr(model.get_submodule(parent), name, Bottleneck(layer, width, size, config["adapter_act"], like=like))
    model.bottleneck_config = dict(config)
    return model


def load_bottlenecks(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """A base with the adapters that were written into a folder."""
    config = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
    made = put_in(model, config)
    tensors = {name.removeprefix(_PREFIX): one for name, one in load_file(folder / FILES[1]).items()}
    parameters = dict(made.named_parameters())
    with torch.no_grad():
        for name, one in tensors.items():
            parameters[name].copy_(one)
    return made.eval()
