"""From a family, a size and a tokenizer to Hugging Face's configuration."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from graft.training.errors import ConfigurationError
from graft.training.model.family import Family, Size, facts_of

_DROPOUTS = ("hidden_dropout", "hidden_dropout_prob", "resid_pdrop", "embd_pdrop", "dropout", "dropout_rate")
_ATTENTION_DROPOUTS = ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop")


def configuration(family: Family, size: Size, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """The configuration of a model for a tokenizer. Raises ``ConfigurationError``."""
    begin = first_id(tokenizer.cls_token_id, tokenizer.bos_token_id)
    end = first_id(tokenizer.eos_token_id, tokenizer.sep_token_id)
    options: dict[str, Any] = {
        "vocab_size": max(tokenizer.get_vocab().values()) + 1,  # ids may have gaps
        "hidden_size": size.width,
        "num_hidden_layers": size.num_layers,
        "num_attention_heads": size.num_heads,
        "intermediate_size": size.feed_forward,
        "max_position_embeddings": size.length + _first_position(family, tokenizer.pad_token_id),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": begin,
        "eos_token_id": end,
        "sep_token_id": first_id(tokenizer.sep_token_id, tokenizer.eos_token_id),
        **family.options(size),
    }
    if family.kind == "encoder-decoder":
        options["decoder_start_token_id"] = tokenizer.pad_token_id if family.starts_with_padding else end
        options["forced_eos_token_id"] = end
    kept = {key: value for key, value in options.items() if value is not None or key == "sliding_window"}
    config: PretrainedConfig = AutoConfig.for_model(family.model_type, **kept)
    if size.dropout is not None:
        _set_dropout(config, family.name, size.dropout)
    return config


def num_positions(config: PretrainedConfig) -> int | None:
    """Tokens of the longest row that a configuration has positions for, None where it sets no limit."""
    room: int | None = getattr(config, "max_position_embeddings", None)
    if room is None or room < 1:
        return None
    return room - _first_position(facts_of(config), getattr(config, "pad_token_id", None))


def _first_position(family: Family, pad_id: int | None) -> int:
    return pad_id + 1 if family.counts_from_padding and pad_id is not None else 0


def _set_dropout(config: PretrainedConfig, name: str, rate: float) -> None:
    """Attention's own goes: CPUs have no fused kernel with it, and it takes half of the speed."""
    found = [one for one in _DROPOUTS if hasattr(config, one)]
    if not found and rate > 0:
        raise ConfigurationError(f"{name} has no dropout but attention's: leave dropout out.")
    for one in found:
        setattr(config, one, rate)
    for one in _ATTENTION_DROPOUTS:
        if hasattr(config, one):
            setattr(config, one, 0.0)


def first_id(*ids: int | None) -> int | None:
    """The first that a tokenizer has."""
    return next((one for one in ids if one is not None), None)
