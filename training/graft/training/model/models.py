"""Models with the heads that an objective needs: with random weights, without weights, or loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from graft.training.errors import ConfigurationError
from graft.training.model.family import Size, configuration, family
from graft.training.objective.replaced_token import GeneratorAndDiscriminator
from graft.training.objective.span_boundary import SpanBoundaryModel

_CLASSES: Mapping[str, Any] = {
    "causal": AutoModelForCausalLM,
    "prefix": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
    "next_sentence": AutoModelForPreTraining,
    "sentence_order": AutoModelForPreTraining,
    "permutation": AutoModelForCausalLM,
    "span_corruption": AutoModelForSeq2SeqLM,
    "denoising": AutoModelForSeq2SeqLM,
}
_FITTING: Mapping[str, tuple[str, ...]] = {
    "decoder": ("causal", "prefix"),
    "encoder": ("masked", "span_boundary"),
    "encoder-decoder": ("span_corruption", "denoising"),
}
_OWN: Mapping[str, tuple[str, ...]] = {
    "bert": ("masked", "next_sentence", "span_boundary"),
    "albert": ("masked", "sentence_order", "span_boundary"),
    "electra": ("replaced_token", "masked"),
    "mixtral": ("causal",),
    "xlnet": ("permutation",),
    "bart": ("denoising", "span_corruption"),
}
"""Objectives that need a head which only one family has come first or beside the others; a mixture of experts has its
balance with next tokens only."""


def objectives_of(name: str) -> tuple[str, ...]:
    """The objectives that a family can be trained with."""
    return _OWN.get(name) or _FITTING[family(name).kind]


def build(name: str, objective: str, size: Size, tokenizer: PreTrainedTokenizerBase) -> nn.Module:
    """A model with random weights, drawn from torch's generator, and the heads that the objective needs.

    Raises ``ConfigurationError`` where the family cannot be trained with the objective.
    """
    fitting = objectives_of(name)
    if objective not in fitting:
        raise ConfigurationError(f"{name} cannot be trained with {objective!r}; it can with {', '.join(fitting)}.")
    config = configuration(name, size, tokenizer)
    if objective == "replaced_token":
        return _with_generator(config, size)
    if objective == "span_boundary":
        return SpanBoundaryModel(AutoModelForMaskedLM.from_config(config))
    model: PreTrainedModel = _CLASSES[objective].from_config(config)
    return model


def _with_generator(config: PretrainedConfig, size: Size) -> GeneratorAndDiscriminator:
    """The generator is a quarter as wide, with the discriminator's embeddings (ELECTRA, §3.2 and table 1)."""
    small = {
        "hidden_size": max(size.width // 4, 1),
        "intermediate_size": max(size.feed_forward // 4, 1),
        "num_attention_heads": max(size.num_heads // 4, 1),
    }
    generator = type(config).from_dict({**config.to_dict(), **small})
    return GeneratorAndDiscriminator(
        AutoModelForMaskedLM.from_config(generator), AutoModelForPreTraining.from_config(config)
    )


def empty(config: PretrainedConfig, objective: str) -> PreTrainedModel:
    """A model of a saved one's shape, without its weights."""
    model: PreTrainedModel = _CLASSES[objective].from_config(config)
    return model


def load(folder: Path, objective: str) -> nn.Module:
    """A model that was saved, in float32, to go on training it with the objective. Raises ``ConfigurationError``."""
    try:
        model: PreTrainedModel = _CLASSES[objective].from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        told = (str(error).strip().splitlines() or [repr(error)])[0]
        raise ConfigurationError(f"the weights in {folder} cannot be loaded: {told[:300]}") from None
    return model


def parts(model: nn.Module) -> Mapping[str, PreTrainedModel]:
    """What of a model is saved, by subfolder: a plain one itself, of a composite one its models."""
    if isinstance(model, PreTrainedModel):
        return {"": model}
    found: Mapping[str, PreTrainedModel] = model.parts
    return found
