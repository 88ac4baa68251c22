"""Sizes of models, and what is known of each architecture that neither its configuration nor a model of it says: one
row for each.

What they say themselves is read from them, of any architecture: tied embeddings, kinds of attention, the plan of tensor
parallelism, the linear layers that forms and adapters are for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from graft.training.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

DEFAULT = "llama"


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


@dataclass(frozen=True, kw_only=True)
class Family:
    """An architecture, under the name that its users know it by. Defaults are what is right for any."""

    name: str
    model_type: str
    """Hugging Face's name; the first of two families that share it is the one that a saved model is taken for."""
    kind: Literal["decoder", "encoder", "encoder-decoder"]
    objectives: tuple[str, ...] = ()
    """What it can be trained with from nothing, its default first; where there is none, it is only adapted."""
    options: Callable[[Size], Mapping[str, Any]] = lambda size: {}
    """What its configuration needs beyond the names that all share; None takes a name away."""
    counts_from_padding: bool = False
    """Positions begin behind the padding token's id."""
    starts_with_padding: bool = False
    """The decoder's first input is the padding token, not the end token."""
    takes_window: bool = False
    """``Size.window`` means something to it."""
    needs_float32: bool = False
    """Its class mixes float32 into what it computes."""
    ends_in_its_head: bool = False
    """Logits are what the output head gives. Others scale, cap or shift them behind it (BART, Gemma-2, Granite,
    Cohere), or may: their logits are computed whole."""
    is_splittable: bool = False
    """Tensor, pipeline and context parallelism take it."""
    final_norm: str = "norm"
    """The module between the blocks and the output head."""
    router: str | None = None
    """The class of the modules that choose experts, of which there are none without it."""
    shared_layers: str | None = None
    """Stands in the names of parameters that all layers share."""

    def objective(self, wanted: str | None) -> str:
        """The objective that is asked for, or the default. Raises ``ConfigurationError`` where it does not fit."""
        chosen = wanted or self.objectives[0]
        if chosen not in self.objectives:
            fitting = ", ".join(self.objectives)
            raise ConfigurationError(f"{self.name} cannot be trained with {chosen!r}; it can with {fitting}.")
        return chosen


def _grouped(size: Size) -> dict[str, Any]:
    return {"num_key_value_heads": size.kv_heads}


def _with_head_dim(size: Size) -> dict[str, Any]:
    return {**_grouped(size), "head_dim": size.width // size.num_heads}


def _mistral(size: Size) -> dict[str, Any]:
    return {**_with_head_dim(size), "sliding_window": size.window}


def _narrow_embeddings(size: Size) -> dict[str, Any]:
    return {"embedding_size": min(size.width, 128)}


_decoder = partial(Family, kind="decoder", objectives=("causal", "prefix"), ends_in_its_head=True)
_encoder = partial(Family, kind="encoder", objectives=("masked", "span_boundary"), ends_in_its_head=True)
_llama = _decoder(name="llama", model_type="llama", options=_with_head_dim, is_splittable=True)

FAMILIES: dict[str, Family] = {
    one.name: one
    for one in (
        _decoder(
            name="gpt2",
            model_type="gpt2",
            # Its GELU by the name under which torch computes it in one pass.
            options=lambda size: {"n_inner": size.feed_forward, "activation_function": "gelu_pytorch_tanh"},
        ),
        _llama,
        _decoder(name="mistral", model_type="mistral", options=_mistral, takes_window=True, is_splittable=True),
        _decoder(name="qwen3", model_type="qwen3", options=_with_head_dim, is_splittable=True),
        _decoder(name="olmo2", model_type="olmo2", options=_grouped, is_splittable=True),
        _decoder(name="pythia", model_type="gpt_neox", is_splittable=True, final_norm="final_layer_norm"),
        replace(_llama, name="smollm", options=lambda size: {**_with_head_dim(size), "tie_word_embeddings": True}),
        _decoder(
            name="mixtral",
            model_type="mixtral",
            objectives=("causal",),  # its experts' balance comes with next tokens only
            options=lambda size: {**_mistral(size), "num_local_experts": size.num_experts},
            takes_window=True,
            router="MixtralTopKRouter",
        ),
        Family(
            name="xlnet",
            model_type="xlnet",
            kind="decoder",
            objectives=("permutation",),
            options=lambda size: {
                "d_model": size.width,
                "n_layer": size.num_layers,
                "n_head": size.num_heads,
                "d_inner": size.feed_forward,
                "max_position_embeddings": None,
            },
            needs_float32=True,
        ),
        _decoder(name="qwen2", model_type="qwen2", objectives=(), options=_grouped),
        _encoder(name="bert", model_type="bert", objectives=("masked", "next_sentence", "span_boundary")),
        _encoder(name="roberta", model_type="roberta", counts_from_padding=True),
        _encoder(
            name="albert",
            model_type="albert",
            objectives=("masked", "sentence_order", "span_boundary"),
            options=_narrow_embeddings,
            shared_layers=".albert_layer_groups.",
        ),
        _encoder(
            name="electra",
            model_type="electra",
            objectives=("replaced_token", "masked"),
            options=_narrow_embeddings,
        ),
        _encoder(name="distilbert", model_type="distilbert", options=lambda size: {"hidden_dim": size.feed_forward}),
        Family(
            name="t5",
            model_type="t5",
            kind="encoder-decoder",
            objectives=("span_corruption", "denoising"),
            options=lambda size: {
                "d_ff": size.feed_forward,
                "d_kv": size.width // size.num_heads,
                "num_decoder_layers": size.num_layers,
            },
            starts_with_padding=True,
            ends_in_its_head=True,
        ),
        Family(
            name="bart",
            model_type="bart",
            kind="encoder-decoder",
            objectives=("denoising", "span_corruption"),
            options=lambda size: {
                "encoder_ffn_dim": size.feed_forward,
                "decoder_ffn_dim": size.feed_forward,
                "decoder_layers": size.num_layers,
                "decoder_attention_heads": size.num_heads,
            },
        ),
    )
}


def trainable() -> list[str]:
    """The families that can be trained from nothing."""
    return [name for name, one in FAMILIES.items() if one.objectives]


def family(name: str) -> Family:
    """One that can be trained from nothing. Raises ``ConfigurationError`` naming those there are."""
    if name not in trainable():
        raise ConfigurationError(f"unknown family {name!r}; the families are {', '.join(trainable())}.")
    return FAMILIES[name]


def facts_of(config: PretrainedConfig) -> Family:
    """What is known of a configuration's architecture, whatever it is."""
    unknown = Family(name=config.model_type, model_type=config.model_type, kind="decoder")
    return next((one for one in FAMILIES.values() if one.model_type == config.model_type), unknown)


def family_of(config: PretrainedConfig) -> Family:
    """The family of a configuration. Raises ``ConfigurationError`` where it is none that can be trained."""
    found = facts_of(config)
    if not found.objectives:
        raise ConfigurationError(
            f"a model of the type {config.model_type!r} cannot be trained; the families are {', '.join(trainable())}."
        )
    return found
