"""The families of models that can be trained from nothing: from a name and a size to Hugging Face's configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from graft.training.errors import ConfigurationError
from graft.training.objective.vocabulary import first_id


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model is. What a family does not have, it leaves out."""

    width: int
    num_layers: int
    num_heads: int
    feed_forward: int
    length: int
    """Tokens that the model is made to read at once."""
    num_kv_heads: int | None = None
    """Default: as many as heads."""
    num_experts: int = 8
    window: int | None = None
    """Of sliding-window attention, in tokens; default: none."""
    dropout: float | None = None
    """Of embeddings and of what blocks add, none of attention; default: the architecture's own."""

    def __post_init__(self) -> None:
        for name in ("width", "num_layers", "num_heads", "feed_forward", "length"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.width % self.num_heads:
            raise ConfigurationError(
                f"a width of {self.width} cannot be split among {self.num_heads} heads; choose a multiple."
            )
        if (self.width // self.num_heads) % 2:
            raise ConfigurationError(
                f"{self.num_heads} heads of {self.width // self.num_heads} cannot turn in pairs: choose an even width."
            )
        if self.num_heads % self.kv_heads:
            raise ConfigurationError(
                f"{self.num_heads} heads cannot share {self.kv_heads} key-value heads; choose a divisor."
            )

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads


def _grouped(size: Size) -> dict[str, Any]:
    return {"num_key_value_heads": size.kv_heads}


def _with_head_dim(size: Size) -> dict[str, Any]:
    return {**_grouped(size), "head_dim": size.width // size.num_heads}


def _gpt2(size: Size) -> dict[str, Any]:
    """Its GELU by the name under which torch computes it in one pass."""
    return {"n_inner": size.feed_forward, "activation_function": "gelu_pytorch_tanh"}


def _smollm(size: Size) -> dict[str, Any]:
    return {**_with_head_dim(size), "tie_word_embeddings": True}


def _distilbert(size: Size) -> dict[str, Any]:
    return {"hidden_dim": size.feed_forward}


def _mistral(size: Size) -> dict[str, Any]:
    return {**_with_head_dim(size), "sliding_window": size.window}


def _mixtral(size: Size) -> dict[str, Any]:
    return {**_mistral(size), "num_local_experts": size.num_experts}


def _narrow_embeddings(size: Size) -> dict[str, Any]:
    return {"embedding_size": min(size.width, 128)}


def _xlnet(size: Size) -> dict[str, Any]:
    return {
        "d_model": size.width,
        "n_layer": size.num_layers,
        "n_head": size.num_heads,
        "d_inner": size.feed_forward,
        "max_position_embeddings": None,
    }


def _t5(size: Size) -> dict[str, Any]:
    return {"d_ff": size.feed_forward, "d_kv": size.width // size.num_heads, "num_decoder_layers": size.num_layers}


def _bart(size: Size) -> dict[str, Any]:
    return {
        "encoder_ffn_dim": size.feed_forward,
        "decoder_ffn_dim": size.feed_forward,
        "decoder_layers": size.num_layers,
        "decoder_attention_heads": size.num_heads,
    }


@dataclass(frozen=True, kw_only=True)
class Family:
    """An architecture, under the name that its users know it by."""

    model_type: str
    kind: str
    """``decoder``, ``encoder`` or ``encoder-decoder``."""
    options: Callable[[Size], Mapping[str, Any]] = lambda size: {}
    """What its configuration needs beyond the names that all share; None takes a name away."""
    counts_from_padding: bool = False
    """Positions begin behind the padding token's id, as in RoBERTa."""


FAMILIES: Mapping[str, Family] = {
    "gpt2": Family(model_type="gpt2", kind="decoder", options=_gpt2),
    "llama": Family(model_type="llama", kind="decoder", options=_with_head_dim),
    "mistral": Family(model_type="mistral", kind="decoder", options=_mistral),
    "qwen3": Family(model_type="qwen3", kind="decoder", options=_with_head_dim),
    "olmo2": Family(model_type="olmo2", kind="decoder", options=_grouped),
    "pythia": Family(model_type="gpt_neox", kind="decoder"),
    "smollm": Family(model_type="llama", kind="decoder", options=_smollm),
    "mixtral": Family(model_type="mixtral", kind="decoder", options=_mixtral),
    "xlnet": Family(model_type="xlnet", kind="decoder", options=_xlnet),
    "bert": Family(model_type="bert", kind="encoder"),
    "roberta": Family(model_type="roberta", kind="encoder", counts_from_padding=True),
    "albert": Family(model_type="albert", kind="encoder", options=_narrow_embeddings),
    "electra": Family(model_type="electra", kind="encoder", options=_narrow_embeddings),
    "distilbert": Family(model_type="distilbert", kind="encoder", options=_distilbert),
    "t5": Family(model_type="t5", kind="encoder-decoder", options=_t5),
    "bart": Family(model_type="bart", kind="encoder-decoder", options=_bart),
}


def family(name: str) -> Family:
    """Raises ``ConfigurationError`` naming the families there are."""
    if name not in FAMILIES:
        raise ConfigurationError(f"unknown family {name!r}; the families are {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def configuration(name: str, size: Size, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """The configuration of a model for a tokenizer. Raises ``ConfigurationError``."""
    chosen = family(name)
    begin = first_id(tokenizer.cls_token_id, tokenizer.bos_token_id)
    end = first_id(tokenizer.eos_token_id, tokenizer.sep_token_id)
    options: dict[str, Any] = {
        "vocab_size": max(tokenizer.get_vocab().values()) + 1,  # ids may have gaps
        "hidden_size": size.width,
        "num_hidden_layers": size.num_layers,
        "num_attention_heads": size.num_heads,
        "intermediate_size": size.feed_forward,
        "max_position_embeddings": size.length + _first_position(chosen, tokenizer.pad_token_id),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": begin,
        "eos_token_id": end,
        "sep_token_id": first_id(tokenizer.sep_token_id, tokenizer.eos_token_id),
        **chosen.options(size),
    }
    if chosen.kind == "encoder-decoder":
        options["decoder_start_token_id"] = tokenizer.pad_token_id if chosen.model_type == "t5" else end
        options["forced_eos_token_id"] = end
    kept = {key: value for key, value in options.items() if value is not None or key == "sliding_window"}
    config: PretrainedConfig = AutoConfig.for_model(chosen.model_type, **kept)
    if size.dropout is not None:
        _set_dropout(config, name, size.dropout)
    return config


def _first_position(chosen: Family, pad_id: int | None) -> int:
    return pad_id + 1 if chosen.counts_from_padding and pad_id is not None else 0


def num_positions(config: PretrainedConfig) -> int | None:
    """Tokens of the longest row that a configuration has positions for, None where it sets no limit."""
    room: int | None = getattr(config, "max_position_embeddings", None)
    chosen = next((one for one in FAMILIES.values() if one.model_type == config.model_type), None)
    if room is None or room < 1:
        return None
    if chosen is None:
        return room
    return room - _first_position(chosen, config.pad_token_id)


_DROPOUTS = ("hidden_dropout", "hidden_dropout_prob", "resid_pdrop", "embd_pdrop", "dropout", "dropout_rate")
_ATTENTION_DROPOUTS = ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop")


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


def family_of(config: PretrainedConfig) -> str:
    """The family of a configuration. Raises ``ConfigurationError`` where it is none that can be trained."""
    found = [name for name, one in FAMILIES.items() if one.model_type == config.model_type]
    if not found:
        raise ConfigurationError(
            f"a model of the type {config.model_type!r} cannot be trained; the families are {', '.join(FAMILIES)}."
        )
    return found[0]
