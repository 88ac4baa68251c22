"""LoRA that begins with what is largest in a base's weights: PiSSA (Meng et al. 2024, arXiv:2404.02948, eq. 2-4) by
their singular values, OLoRA (Büyükakyüz 2024, arXiv:2406.01775, algorithm 1) by a QR decomposition.

Both take what they begin with out of the base's weights. That would be another base than the one that is served, and in
NF4 it would be rounded anew. Here the base stays as it is: what is taken out is a second, frozen pair of matrices, and
both pairs together are written as one LoRA adapter of twice the rank, which any server takes on the base itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor

from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Method, Route, Way
from graft.training.adapt.methods.lora import RANKS, highest_rank, lora_config
from graft.training.adapt.methods.through_peft import PeftMethod, as_files
from graft.training.adapt.settings import MAX_RANK, AdaptSettings
from graft.training.errors import ConfigurationError

START = "start"
"""The frozen pair, by peft's name of an adapter."""
Split = Callable[[Tensor, int, float], tuple[Tensor, Tensor]]
"""Of a weight (out, in), a rank and the adapter's scale: B (out, r) and A (r, in) to begin with."""


def pissa(settings: AdaptSettings) -> Method:
    def split(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        if settings.pissa_niter is None:
            u, s, vt = torch.linalg.svd(weight, full_matrices=False)
            u, s, vt = u[:, :rank], s[:rank], vt[:rank]
        else:
            u, s, v = torch.svd_lowrank(weight, rank, niter=settings.pissa_niter)
            vt = v.T
        root = (s / scale).sqrt()
        return u * root, root[:, None] * vt

    return _beginning_with("pissa", split, settings, frozenset(("use_rslora", "pissa_niter")))


def olora(settings: AdaptSettings) -> Method:
    def split(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
        q, r = torch.linalg.qr(weight)
        return q[:, :rank], r[:rank]

    return _beginning_with("olora", split, settings, frozenset(("use_rslora",)))


def _beginning_with(name: str, split: Split, settings: AdaptSettings, uses: frozenset[str]) -> Method:
    def configuration(base: Adaptable) -> LoraConfig:
        config = lora_config(base, settings)
        if (highest := highest_rank(base, settings)) > MAX_RANK // 2:
            raise ConfigurationError(
                f"{name} has the rank {highest}, and is served as a LoRA adapter of twice that; a server takes "
                f"{MAX_RANK} at most: lower r, or rank_pattern, to {MAX_RANK // 2}."
            )
        return config

    return PeftMethod(
        name=name,
        uses=RANKS | uses,
        configuration=configuration,
        way=lambda base: Way(route=Route.AS_IS, rank=2 * highest_rank(base, settings)),
        begin=lambda model: _begin(model, split),
        pack=_packed,
    )


@torch.no_grad()
def _begin(model: PeftModel, split: Split) -> None:
    """Both pairs have the same numbers, and one is taken away: they add nothing to the base at first."""
    config = copy(model.peft_config["default"])
    config.lora_dropout = 0.0
    model.add_adapter(START, config, autocast_adapter_dtype=False)
    model.base_model.set_adapter(["default", START])
    for layer in (one for one in model.modules() if isinstance(one, LoraLayer)):
        weight = dequantize_module_weight(layer.get_base_layer())
        scale = layer.scaling["default"]
        layer.scaling[START] = -scale
        for matrices in (layer.lora_A, layer.lora_B):
            matrices[START].requires_grad_(False)
            matrices[START].to(matrices["default"].weight.dtype)
        if not weight.is_meta:
            b, a = split(weight.detach().float(), layer.r["default"], scale)
            for pair in ("default", START):
                layer.lora_B[pair].weight.copy_(b)
                layer.lora_A[pair].weight.copy_(a)


def _packed(model: PeftModel, whole: Mapping[str, Tensor]) -> dict[str, bytes]:
    """One pair of twice the rank: what was learned, and what it began with, taken away."""
    tensors = {}
    for name, learned in whole.items():
        start = model.get_parameter(name.replace(".default.", f".{START}.")).detach().cpu()
        is_a = ".lora_A." in name
        both = torch.cat((learned, start)) if is_a else torch.cat((learned, -start), dim=1)
        tensors[name.replace(".default.", ".")] = both
    config = model.peft_config["default"]
    # The scale is the same: by alpha/r, or by alpha/√r.
    factor = math.sqrt(2) if config.use_rslora else 2
    return as_files(
        tensors,
        config.to_dict(),
        r=2 * config.r,
        rank_pattern={key: 2 * rank for key, rank in config.rank_pattern.items()},
        lora_alpha=factor * config.lora_alpha,
        alpha_pattern={key: factor * alpha for key, alpha in config.alpha_pattern.items()},
    )
