"""Layers of peft's that ask a base's weight for its shape, over layers whose weights are packed 4-bit codes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import SimpleNamespace

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from graft.training.adapt.methods.through_peft import inject


def inject_by_shape(model: PreTrainedModel, config: PeftConfig, *, base_name: str) -> PeftModel:
    """As ``inject``. Whoever asks a layer's weight for its shape gets the shape of the numbers, not of the codes."""
    modules = [one for one in model.modules() if _is_packed(one)]
    packed = {id(one): _seeming(one) for one in modules}
    with _seeming_plain(modules):
        adapted = inject(model, config, base_name=base_name)
    for layer in adapted.modules():
        if isinstance(layer, BaseTunerLayer) and id(layer.base_layer) in packed:
            layer.get_base_layer = functools.partial(SimpleNamespace, weight=packed[id(layer.base_layer)])
    return adapted


def _is_packed(module: nn.Module) -> bool:
    return hasattr(module, "quant_state") and module.weight.shape != (module.out_features, module.in_features)


def _seeming(module: nn.Module) -> nn.Parameter:
    """It takes no memory."""
    one_for_all = torch.zeros((), dtype=module.compute_dtype or torch.bfloat16, device=module.weight.device)
    return nn.Parameter(one_for_all.expand(module.out_features, module.in_features), requires_grad=False)


@contextlib.contextmanager
def _seeming_plain(modules: list[nn.Module]) -> Iterator[None]:
    weights = [(module, module.weight) for module in modules]
    for module in modules:
        module._parameters["weight"] = _seeming(module)
    try:
        yield
    finally:
        for module, weight in weights:
            module._parameters["weight"] = weight
