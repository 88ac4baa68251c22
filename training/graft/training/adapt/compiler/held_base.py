"""A base in float32, with the numbers that its form stands for: what an update is added to."""

from __future__ import annotations

import torch
from peft.utils.integrations import dequantize_module_weight
from torch import nn
from transformers import PreTrainedModel

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.model.loading import load_base

_QUANTIZED = ("Linear4bit", "Linear8bitLt")
_PLAIN = (ServingForm.BF16, ServingForm.FP32)


def load_held(base: Base, form: ServingForm, *, device: torch.device) -> PreTrainedModel:
    """Frozen, in evaluation. Plain weights are taken as the files have them, quantized ones as what their bits are
    multiplied as.

    Raises what ``load_base`` does.
    """
    if form in _PLAIN:
        return load_base(base.path, ServingForm.FP32, device=device)
    model = load_base(base.path, form, device=device)
    for path, module in list(model.named_modules()):
        if type(module).__name__ in _QUANTIZED:
            model.set_submodule(path, _plain(module))
    _forget_quantization(model)
    model.float()
    return model


def _plain(module: nn.Module) -> nn.Linear:
    with torch.device("meta"):
        plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
    plain.weight = nn.Parameter(dequantize_module_weight(module).detach().float(), requires_grad=False)
    if module.bias is not None:
        plain.bias = nn.Parameter(module.bias.detach().float(), requires_grad=False)
    return plain.eval()


def _forget_quantization(model: PreTrainedModel) -> None:
    """By what transformers and peft would take the layers for quantized ones."""
    for name in ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        setattr(model, name, False)
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
