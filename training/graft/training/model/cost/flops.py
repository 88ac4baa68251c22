"""How much arithmetic a training is.

Counted as PaLM does (Chowdhery et al. 2022, arXiv:2204.02311, appendix B): per token 6 for each weight that is
multiplied by, forward and backward, and 12 · layers · heads · head width · length for attention, causal or not. Beyond
it: a layer with a window counts the keys in its window; a frozen weight has no gradient of its own and counts 4; what
is computed again to save memory does not count. State-space and linear attention count their matrices only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from graft.training.model.family import facts_of

_NUM_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "moe_topk", "moe_top_k", "moe_k", "top_k_experts")
"""Names in the configurations of transformers."""
_WITHOUT_SCORES = ("linear", "mamba", "conv", "recurrent", "rwkv", "mlp", "moe")
"""Stand in the names of layer types that compare no two tokens."""


def num_multiplied(model: nn.Module) -> float:
    """Weights that a token is multiplied by: all matrices but position and token embeddings, the output head where it
    shares those; of experts those that are asked, and a shared layer as often as it runs (ALBERT). Of encoder-decoders
    those of both sides.
    """
    return sum(share for _, share, _ in _multiplied(model))


def flops_per_token(model: nn.Module, length: float, *, target_length: float | None = None) -> float | None:
    """Of forward and backward, in rows of ``length`` tokens; None where it is not known how many experts are asked.

    Encoder-decoders read ``length`` tokens and write ``target_length`` (default: as many); what both sides take is
    counted for each token that is read.
    """
    models = _models(model)
    if any(_has_unknown_experts(one) for one in models):
        return None
    targets = 1.0 if target_length is None else target_length / length
    weights = 0.0
    for name, share, is_trained in _multiplied(model):
        weights += share * (6 if is_trained else 4) * (targets if _is_of_targets(name, models) else 1)
    return weights + sum(_attention(one.config, length, targets * length) for one in models)


def _multiplied(model: nn.Module) -> Iterator[tuple[str, float, bool]]:
    """Each matrix: its name, how many of its weights a token meets, and whether it is trained."""
    tables = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
    heads = [head for one in _models(model) if (head := one.get_output_embeddings()) is not None]
    for name, one in model.named_parameters():
        is_stacked_bias = name.endswith(("bias", "_bias")) and one.ndim == 2
        if one.ndim > 1 and id(one) not in tables and not is_stacked_bias:
            yield name, one.numel() * _times_met(model, name, one), one.requires_grad
    for head in heads:
        if id(head.weight) in tables:
            yield "lm_head.weight", float(head.weight.numel()), head.weight.requires_grad


def _times_met(model: nn.Module, name: str, weight: nn.Parameter) -> float:
    """How often a token is multiplied by a matrix: a share, where it is of experts."""
    config = _models(model)[0].config.get_text_config()
    part = facts_of(config).shared_layers
    if part is not None and part in name:
        return float(config.num_hidden_layers / config.num_hidden_groups)
    num, asked = _experts(config)
    if num and asked and (".experts." in name or (weight.ndim == 3 and weight.shape[0] == num)):
        return asked / num
    return 1.0


def _experts(config: PretrainedConfig) -> tuple[int | None, int | None]:
    """How many there are in a layer, and how many a token asks."""
    where = getattr(config, "ffn_config", None) or config  # DBRX
    num, asked = (
        next((value for name in names if isinstance(value := getattr(where, name, None), int)), None)
        for names in (_NUM_EXPERTS, _EXPERTS_PER_TOKEN)
    )
    return num, asked


def _has_unknown_experts(model: PreTrainedModel) -> bool:
    has_any = any(".experts." in name for name, _ in model.named_parameters())
    return has_any and None in _experts(model.config.get_text_config())


def _is_of_targets(name: str, models: list[PreTrainedModel]) -> bool:
    """Whether a matrix of an encoder-decoder meets the tokens that it writes; what the decoder takes from the encoder's
    states, keys and values, meets those that it reads.
    """
    if not models[0].config.is_encoder_decoder or ".encoder." in f".{name}":
        return False
    of_encoder = any(part in name for part in ("EncDecAttention.", "encoder_attn.", "cross_attn."))
    return not (of_encoder and name.split(".")[-2] in ("k", "v", "k_proj", "v_proj"))


def _attention(config: PretrainedConfig, length: float, target_length: float) -> float:
    """Per token that is read."""
    if not config.is_encoder_decoder:
        return sum(6.0 * _width(config, kind) * min(reach, length) for kind, reach in _layers(config, length))
    encoder = 12.0 * _count(config, "encoder") * _side_width(config, "encoder") * length
    both = 12.0 * _count(config, "decoder") * _side_width(config, "decoder")
    return encoder + both * (target_length * target_length + target_length * length) / length


def _layers(config: PretrainedConfig, length: float) -> Iterator[tuple[str, float]]:
    """Of each layer that compares tokens: its kind, and how many keys a query is compared with."""
    config = config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    window = getattr(config, "sliding_window", None) or length
    chunk = getattr(config, "attention_chunk_size", None) or length
    are_windows = getattr(config, "layer_types", None) is None and getattr(config, "use_sliding_window", True)
    for kind in kinds:
        if not any(part in kind for part in _WITHOUT_SCORES):
            is_windowed = "sliding" in kind or are_windows
            yield kind, window if is_windowed else chunk if "chunked" in kind else length


def _width(config: PretrainedConfig, kind: str) -> int:
    """Of the queries and the values of all heads together, which need not be the model's width."""
    config = config.get_text_config()
    heads: int = config.num_attention_heads
    if (latent := getattr(config, "qk_nope_head_dim", None)) is not None:  # DeepSeek's
        return int(heads * (latent + config.qk_rope_head_dim + config.v_head_dim))
    head: Any = getattr(config, "head_dim", None) or config.hidden_size // heads
    if kind == "full_attention":
        head = getattr(config, "global_head_dim", None) or head
    return int(2 * heads * head)


def _count(config: PretrainedConfig, side: str) -> int:
    other = {"encoder": "num_layers", "decoder": "num_decoder_layers"}[side]
    return int(getattr(config, f"{side}_layers", None) or getattr(config, other))


def _side_width(config: PretrainedConfig, side: str) -> int:
    heads = getattr(config, f"{side}_attention_heads", None) or config.num_attention_heads
    return int(heads * (getattr(config, "d_kv", None) or config.hidden_size // heads))


def _models(model: nn.Module) -> list[PreTrainedModel]:
    """The outermost ones: of adapters their base, of a composite each part."""
    if isinstance(model, PreTrainedModel):
        return [model]
    return [one for child in model.children() for one in _models(child)]
