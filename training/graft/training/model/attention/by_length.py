"""Attention within documents on the CPU: those of one length, filled up to a few tokens more, are attended to at once.

Behind a document stands what fills it up, which a causal query never sees: no mask is made and no pair of tokens of
two documents computed. 16-bit numbers go through float32 and are rounded once, at the end: torch's fused kernel is more
than twice as fast there (LOG, 2026-11-27). What is computed of a document does not depend on those around it.

Legend: T queries and S keys of all documents, H heads, G key-value heads, D width of a head; P places of all documents
with what fills them up, B documents of L places.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

STEP = 8
"""Documents are filled up to a multiple of so many tokens: fewer calls of a kernel."""


@dataclass(frozen=True, kw_only=True)
class ByLength:
    """Documents in the order of their lengths."""

    place_T: Tensor
    """Where each token stands among the places."""
    num_of_length: tuple[tuple[int, int], ...]
    """Places of a document, and how many documents have as many."""

    @property
    def num_places(self) -> int:
        return sum(length * num for length, num in self.num_of_length)

    @classmethod
    @functools.lru_cache(maxsize=8)
    def of(cls, sizes: tuple[int, ...]) -> ByLength:
        """Of documents of so many tokens, one after the other. A model asks once in each of its layers."""
        lengths = [-(-size // STEP) * STEP for size in sizes]
        place_T, start = torch.empty(sum(sizes), dtype=torch.long), 0
        starts = [0] * len(sizes)
        for number in sorted(range(len(sizes)), key=lambda one: lengths[one]):
            starts[number], start = start, start + lengths[number]
        begin = 0
        for size, first in zip(sizes, starts, strict=True):
            place_T[begin : begin + size] = torch.arange(first, first + size)
            begin += size
        return cls(place_T=place_T, num_of_length=tuple(sorted(Counter(lengths).items())))


def attention(
    query: Tensor, key: Tensor, value: Tensor, sizes: tuple[int, ...], *, scale: float, window: int | None
) -> Tensor:
    """Causal within each document of so many tokens. Shapes: (T, H, D), (T, G, D) and (T, G, D); returns (T, H, D)."""
    own = ByLength.of(sizes)
    dtype = torch.float32 if query.dtype in (torch.bfloat16, torch.float16) else query.dtype
    if (shared := query.shape[1] // key.shape[1]) > 1:
        key, value = (one.repeat_interleave(shared, dim=1) for one in (key, value))
    spread = (one.new_zeros(own.num_places, *one.shape[1:], dtype=dtype) for one in (query, key, value))
    query_PHD, key_PHD, value_PHD = (
        room.index_copy(0, own.place_T, one.to(dtype)) for room, one in zip(spread, (query, key, value), strict=True)
    )
    each = [length * num for length, num in own.num_of_length]
    parts = zip(own.num_of_length, query_PHD.split(each), key_PHD.split(each), value_PHD.split(each), strict=True)
    found = [_alike(*states, length=length, scale=scale, window=window) for (length, _), *states in parts]
    found_PHD = found[0] if len(found) == 1 else torch.cat(found)
    return found_PHD.index_select(0, own.place_T).to(query.dtype)


def _alike(query: Tensor, key: Tensor, value: Tensor, *, length: int, scale: float, window: int | None) -> Tensor:
    """Of documents of one length. Shapes: (B · L, H, D)."""
    query_BHLD, key_BHLD, value_BHLD = (one.unflatten(0, (-1, length)).transpose(1, 2) for one in (query, key, value))
    seen_LL = None if window is None or window >= length else _seen(length, window)
    output_BHLD = functional.scaled_dot_product_attention(
        query_BHLD, key_BHLD, value_BHLD, attn_mask=seen_LL, is_causal=seen_LL is None, scale=scale
    )
    return output_BHLD.transpose(1, 2).flatten(0, 1)


def _seen(length: int, window: int) -> Tensor:
    """Shape: (L, L)."""
    at_L = torch.arange(length)
    distance_LL = at_L[:, None] - at_L
    return (distance_LL >= 0) & (distance_LL < window)
