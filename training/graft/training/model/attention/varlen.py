"""Attention that goes by where documents begin and end, in place of a mask of all pairs of a row's tokens.

A registered attention of Hugging Face's models. The offsets come to it as theirs do (``FlashAttentionKwargs``), a
layer's window as the layer's own argument, and a ``placeholder`` keeps models from making masks. What a kernel cannot
do for a layer, a mask made of the same offsets does; calls without offsets go the usual way.

Legend: B rows, H heads, G key-value heads, L queries and K keys of a row, T and S of all rows, D width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from graft.training.model.attention import in_blocks as masked
from graft.training.model.attention.varlen_kernels import KERNELS, Pieces, reference

NAME = "graft_varlen"
CONTEXT_NAME = "graft_varlen_context"
"""The same under context parallelism, where keys are gathered before."""
NAMES = frozenset((NAME, CONTEXT_NAME))


def placeholder(rows: int, device: torch.device) -> Tensor:
    """What stands in a mask's place: of four axes, so that models hand it on. Shape: (B, 1, 1, 1)."""
    return torch.ones(rows, 1, 1, 1, dtype=torch.bool, device=device)


def register() -> None:
    """Makes the name known to transformers."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    key_index: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Hugging Face's interface. Shapes: (B, H, L, D) and, of keys and values, (B, G, K, D); returns (B, L, H, D)."""
    if cu_seq_lens_q is None or cu_seq_lens_k is None or max_length_q is None or max_length_k is None:
        if attention_mask is not None and attention_mask.shape[-1] < key.shape[2]:
            raise RuntimeError(f"where documents begin does not reach the attention of {type(module).__name__}")
        return masked.attention(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options)
    pieces = Pieces(
        query_offsets=cu_seq_lens_q, key_offsets=cu_seq_lens_k, max_query=max_length_q, max_key=max_length_k
    )
    shapes, device = (query.shape[-1], value.shape[-1]), query.device.type
    if obstacle(*shapes, dtype=query.dtype, device=device, dropout=dropout, **options) is not None:
        if key_index is not None:
            raise RuntimeError(f"{type(module).__name__} cannot attend to parts of rows by their documents")
        mask = pieces.mask(rows=query.shape[0], length=query.shape[2], window=sliding_window)
        return masked.attention(module, query, key, value, mask, dropout=dropout, scaling=scaling, **options)
    query_THD, key_SGD, value_SGD = (one.transpose(1, 2).flatten(0, 1) for one in (query, key, value))
    if key_index is not None:
        key_SGD, value_SGD = key_SGD.index_select(0, key_index), value_SGD.index_select(0, key_index)
    # In latent attention values are narrower; kernels want one width.
    value_SGD = functional.pad(value_SGD, (0, query.shape[-1] - value.shape[-1]))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kernel = KERNELS.get(device, reference)
    found_THD = kernel(query_THD, key_SGD, value_SGD, pieces, scale=scale, window=sliding_window)
    return found_THD[..., : value.shape[-1]].unflatten(0, (query.shape[0], query.shape[2])), None


def obstacle(
    width: int, value_width: int, *, dtype: torch.dtype, device: str, dropout: float = 0.0, **options: Any
) -> str | None:
    """Why a layer needs a mask on a kind of device."""
    if dropout:
        return "attention's dropout"
    for name, what in (("position_bias", "a bias for each pair"), ("softcap", "soft caps"), ("s_aux", "sinks")):
        if options.get(name) is not None:
            return what
    if device == "cpu":
        return None
    if dtype not in (torch.bfloat16, torch.float16):
        return f"numbers of {dtype}, where kernels take 16 bits".replace("torch.", "")
    if width > 256 or width % 8 or value_width > width:
        return f"heads of {width} and {value_width}, where kernels take multiples of 8 up to 256"
    return None
