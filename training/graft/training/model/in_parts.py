"""A decoder whose weights are read when they are asked for, as ``from_pretrained`` would load them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from graft.training.model.attention.soft_caps import keep_soft_caps
from graft.training.model.deferred import Deferred
from graft.training.model.loading import load_in_parts


def decoder_in_parts(folder: Path, dtype: torch.dtype) -> Deferred | None:
    """A frozen model of a type; what is read of its weights has the type that the files give it.

    None where the folder's weights are not the model's as they lie there, such as single experts of a stack, or where
    some of them would keep another type.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    deferred = load_in_parts(folder, lambda: _made(config, dtype))
    if deferred is None or not isinstance(deferred.model, PreTrainedModel):
        return None
    model = deferred.model
    if model._keep_in_fp32_modules or model._keep_in_fp32_modules_strict:
        return None
    keep_soft_caps(model)
    model.requires_grad_(False)
    model.eval()
    return deferred


def _made(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """One of a type whose buffers have the numbers that ``from_pretrained`` gives them: it computes them in float32,
    and then rounds those that the model has in its own type.
    """
    exact = dict(AutoModelForCausalLM.from_config(config, dtype=torch.float32).named_buffers())
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    for name, buffer in model.named_buffers():
        buffer.copy_(exact[name])
    return model
