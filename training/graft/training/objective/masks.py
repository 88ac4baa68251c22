"""Attention masks of packed rows, for each kind of a decoder's layers."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import PretrainedConfig, PreTrainedModel

from graft.training.batch.packing import PackedBatch, Reach
from graft.training.model.attention import varlen

FLASH, FLEX = "flash_attention_2", "flex_attention"
FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
MASKED = frozenset((FULL, SLIDING, CHUNKED))
"""Kinds of layers, by Hugging Face's names, in which a mask decides alone what a token sees."""


def attention_inputs(model: nn.Module, batch: PackedBatch, *, is_made_here: bool = False) -> dict[str, Any]:
    """What a Hugging Face decoder is called with for its attention: offsets of documents where it goes by them, else a
    mask, as every layer needs it, by their kind where they differ.

    The mask is None where every line holds one document, behind which padding may follow: a decoder's own mask is that,
    faster. ``is_made_here`` says that there is no such mask: its layers are called by themselves.
    """
    decoder = decoder_of(model)
    implementation = decoder.config.get_text_config()._attn_implementation
    if implementation in varlen.NAMES:
        ids = batch.input_ids_BL
        return {"attention_mask": varlen.placeholder(len(ids), ids.device), **batch.documents.arguments}
    if implementation == FLASH:
        return {"attention_mask": None, **batch.documents.arguments}
    if batch.is_apart and not is_made_here:
        return {"attention_mask": None}
    masks = {kind: _mask(decoder, batch, reach) for kind, reach in reaches(decoder).items()}
    return {"attention_mask": masks if len(masks) > 1 else next(iter(masks.values()))}


def _mask(decoder: PreTrainedModel, batch: PackedBatch, reach: Reach) -> Any:
    """As the decoder's attention takes it."""
    if decoder.config.get_text_config()._attn_implementation == FLEX and batch.place_L is None:
        return block_mask(batch, reach)
    return fitting(decoder, batch.attention_mask(reach))


def block_mask(batch: PackedBatch, reach: Reach) -> BlockMask:
    """The same as ``attention_mask`` for ``flex_attention``, which leaves out blocks where nobody sees anybody (Dong et
    al. 2024, arXiv:2412.05496).
    """
    document_BL, position_BL = batch.document_BL, batch.position_ids_BL
    rows, length = document_BL.shape

    def sees(row: Tensor, head: Tensor, at: Tensor, key_at: Tensor) -> Tensor:
        seen = (document_BL[row, at] == document_BL[row, key_at]) & (key_at <= at)
        if reach.window is not None:
            seen = seen & (at - key_at < reach.window)
        if reach.chunk is not None:
            seen = seen & (position_BL[row, at] // reach.chunk == position_BL[row, key_at] // reach.chunk)
        return seen

    return create_block_mask(sees, rows, None, length, length, device=str(document_BL.device))


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
    """A boolean mask as the decoder's attention takes it: ``eager`` and ``flex_attention`` add it to the scores."""
    if decoder.config.get_text_config()._attn_implementation not in ("eager", FLEX):
        return mask
    dtype = next(one.dtype for one in decoder.parameters() if one.is_floating_point())
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
