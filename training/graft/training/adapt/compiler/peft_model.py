"""Adapted models as peft makes them, filled from files whose every tensor has its place."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from transformers import PreTrainedModel

from graft.training.adapt.compiler.closed_forms import ADAPTER
from graft.training.errors import ConfigurationError

PREFIX = "base_model.model."
"""Before a module's path in the base, in peft's names."""


def empty(base: PreTrainedModel, config: PeftConfig) -> PeftModel:
    """The base with an adapter that was not trained; in the base's own types."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied weights and the like: what comes of it is measured
        model = get_peft_model(base, config, adapter_name=ADAPTER, autocast_adapter_dtype=False)
    if not isinstance(model, PeftModel):
        raise ConfigurationError("peft makes no adapted model of it.")
    return model


def fill(model: PeftModel, tensors: Mapping[str, Tensor]) -> None:
    """Raises ``ConfigurationError`` where a tensor has no place, or a place no tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        set_peft_model_state_dict(model, dict(tensors), adapter_name=ADAPTER)
        places = get_peft_model_state_dict(model, adapter_name=ADAPTER, save_embedding_layers=False)
        own = model.state_dict()
    # peft keeps embeddings with their adapter where they may have been resized.
    beside = {name for name in tensors.keys() - places.keys() if name in own and _alike(own[name], tensors[name])}
    if strange := sorted(tensors.keys() - places.keys() - beside):
        raise ConfigurationError(f"{len(strange)} of its tensors have no place there, such as {strange[0]}.")
    if missing := sorted(places.keys() - tensors.keys()):
        raise ConfigurationError(f"{len(missing)} tensors are missing, such as {missing[0]}.")


def _alike(own: Tensor, other: Tensor) -> bool:
    """But for the rounding of a type."""
    return own.shape == other.shape and bool(
        torch.allclose(own.to(other).float(), other.to(own.device).float(), rtol=2**-7)
    )


def layers_of(model: PeftModel) -> Iterator[tuple[str, BaseTunerLayer]]:
    """Those that are adapted, by their paths in the base."""
    for path, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield path.removeprefix(PREFIX), module
