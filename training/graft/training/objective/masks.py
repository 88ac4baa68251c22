"""Attention masks of packed rows, for each kind of a decoder's layers."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from graft.training.batch.packing import PackedBatch, Reach

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
MASKED = frozenset((FULL, SLIDING, CHUNKED))
"""Kinds of layers, by Hugging Face's names, in which a mask decides alone what a token sees."""


def mask_for(model: nn.Module, batch: PackedBatch) -> Tensor | dict[str, Tensor] | None:
    """``attention_mask`` for a Hugging Face decoder: as every layer needs it, by their kind where they differ.

    None where every line holds one document, behind which padding may follow: a decoder's own mask is that, faster.
    """
    if batch.is_apart:
        return None
    decoder = decoder_of(model)
    masks = {kind: fitting(decoder, batch.attention_mask(reach)) for kind, reach in reaches(decoder).items()}
    return masks if len(masks) > 1 else next(iter(masks.values()))


def reaches(model: nn.Module) -> Mapping[str, Reach]:
    """How far back the layers of each kind see."""
    decoder = decoder_of(model)
    config = decoder.config.get_text_config()
    window: int | None = getattr(config, "sliding_window", None)
    of_kind = {FULL: Reach(), SLIDING: Reach(window=window), CHUNKED: Reach(chunk=chunk_of(config))}
    if kinds := sorted(kinds_of(decoder) & MASKED):
        return {kind: of_kind[kind] for kind in kinds}
    base = type(decoder.base_model)
    return {FULL: of_kind[SLIDING] if _has_windows(base.__module__, base.__name__) else Reach()}


def decoder_of(model: nn.Module) -> PreTrainedModel:
    """The model itself, or what adapters were put on."""
    return next(one for one in model.modules() if isinstance(one, PreTrainedModel))


def kinds_of(decoder: PreTrainedModel) -> set[str]:
    """Of its layers, where they are told apart."""
    return set(getattr(decoder.config.get_text_config(), "layer_types", None) or ())


def chunk_of(config: PretrainedConfig) -> int | None:
    """Tokens of a chunk of chunked attention (Llama 4)."""
    chunk: int | None = getattr(config, "attention_chunk_size", None)
    return chunk


@functools.cache
def _has_windows(module: str, name: str) -> bool:
    """Whether a class that does not tell its layers apart looks at the setting at all."""
    return "sliding_window" in inspect.getsource(getattr(sys.modules[module], name).forward)


def fitting(decoder: PreTrainedModel, mask: Tensor) -> Tensor:
    """A boolean mask as the decoder's attention takes it: ``eager`` adds what it is given to the scores."""
    if decoder.config.get_text_config()._attn_implementation != "eager":
        return mask
    dtype = next(one.dtype for one in decoder.parameters() if one.is_floating_point())
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
