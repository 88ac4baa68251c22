"""What a base is made of, read from its configuration and its files' headers before a weight is loaded."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base
from graft.training.errors import ConfigurationError

_MOST_OUTSIDE = 0.1
"""Of the blocks' matrices: where more would stay outside, a form does not hold the model."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """The linear layers of a decoder: those of the blocks, which a form holds, and the others, by path."""

    layers: Mapping[str, tuple[int, int]]
    """(outputs, inputs)."""
    plain: tuple[str, ...]
    """Linear layers that stay as they are: the output head."""
    tied: bool
    """Whether the configuration says that the output head is the input embedding."""
    leftovers: frozenset[str]
    """Names of the files' tensors that the model never loads (see ``leftovers``)."""

    @classmethod
    def of(cls, base: Base) -> Structure:
        """Raises ConfigurationError where the base is no decoder, or no form holds most of its blocks' weights."""
        model = empty_decoder(base)
        output = model.get_output_embeddings()
        linear = {path: one for path, one in model.named_modules() if isinstance(one, nn.Linear)}
        layers = {path: (one.out_features, one.in_features) for path, one in linear.items() if one is not output}
        if told := mostly_outside(base, model, layers):
            raise ConfigurationError(f"{told} Quantized forms hold linear layers only; keep this base plain.")
        _require_files(base, model, layers)
        plain = tuple(path for path in linear if path not in layers)
        tied = bool(model.config.tie_word_embeddings)
        return cls(layers=layers, plain=plain, tied=tied, leftovers=leftovers(base, model))

    def require(self, *, inputs: int, outputs: int, form: str) -> None:
        """Raises ConfigurationError naming the first layer whose sizes are no multiples of what a form needs."""
        for path, (num_outputs, num_inputs) in self.layers.items():
            for number, divisor, what in ((num_inputs, inputs, "inputs"), (num_outputs, outputs, "outputs")):
                if number % divisor:
                    raise ConfigurationError(
                        f"{path} has {number} {what}, which {divisor} does not divide; {form} needs that."
                    )


def empty_decoder(base: Base) -> PreTrainedModel:
    """The base's shape, without memory for its weights. Raises ConfigurationError where it is no decoder."""
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(base.path, local_files_only=True)
    except Exception as error:  # each architecture's configuration has checks and errors of its own
        raise _unreadable(base, error) from None
    classes: Mapping[type, Any] = AutoModelForCausalLM._model_mapping
    made = classes[type(config)].__name__ if type(config) in classes else None
    if made != base.architecture:
        raise ConfigurationError(
            f"{base.name} has the architecture {base.architecture}, which does not write text token by token; "
            "only such bases are served, so only they are quantized and adapted."
        )
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    except Exception as error:
        raise _unreadable(base, error) from None
    return model


def leftovers(base: Base, model: PreTrainedModel) -> frozenset[str]:
    """Names of the files' tensors that transformers declares to be of no use, such as the masks in Pythia's: their
    numbers (-1e9, infinite in float16) are no weights.
    """
    patterns = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    prefix = f"{model.base_model_prefix}."  # which files may leave out
    loaded = {name.removeprefix(prefix) for name in model.state_dict()}
    return frozenset(
        name
        for name in base_files.read(base.path).tensors
        if name.removeprefix(prefix) not in loaded and any(pattern.search(name) for pattern in patterns)
    )


def _unreadable(base: Base, error: Exception) -> ConfigurationError:
    told = " ".join(str(error.__cause__ or error).split())[:200]
    return ConfigurationError(f"{base.path / base_files.CONFIG} makes no model: {told}")


def mostly_outside(base: Base, model: PreTrainedModel, layers: Collection[str]) -> str | None:
    """What to say of blocks that are not made of linear layers. Experts of one piece, GPT-2's transposed layers and the
    like are matrices too, and neither a form nor an adapter is for them.
    """
    tables = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
    head = model.get_output_embeddings()
    if head is not None:
        tables.add(id(head.weight))
    blocks = {name: one.numel() for name, one in model.named_parameters() if one.dim() > 1 and id(one) not in tables}
    outside = {name: count for name, count in blocks.items() if name.removesuffix(".weight") not in layers}
    share = sum(outside.values()) / max(sum(blocks.values()), 1)
    if share <= _MOST_OUTSIDE:
        return None
    largest = max(outside, key=lambda name: outside[name])
    return (
        f"{share:.0%} of the weights in the blocks of {base.name} ({base.architecture}) are not in linear layers: "
        f"{largest} and {len(outside) - 1} more."
    )


def _require_files(base: Base, model: PreTrainedModel, layers: Mapping[str, tuple[int, int]]) -> None:
    """The files hold the layers under their names, and everything in the shape that the configuration gives it."""
    there = base_files.read(base.path).tensors
    missing = [path for path in layers if f"{path}.weight" not in there]
    if missing:
        raise ConfigurationError(
            f"the files in {base.path} hold no {missing[0]}.weight ({len(missing)} such); load the model with "
            f"transformers and save it again, so that its weights have the names of {base.architecture}."
        )
    for name, parameter in model.named_parameters():
        if name in there and there[name].shape != tuple(parameter.shape):
            raise ConfigurationError(
                f"{name} has the shape {list(there[name].shape)} in the files of {base.path}, "
                f"and {list(parameter.shape)} by config.json: they are of two models."
            )
