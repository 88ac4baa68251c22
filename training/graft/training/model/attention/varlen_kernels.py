"""Kernels of attention over sequences of different lengths, and what they compute, written slowly.

The i-th of n queries of a document with m keys sees the keys up to m − n + i: its own is the last. Legend: T queries
and S keys of all documents, H heads, G key-value heads, D width of a head.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from graft.training.model.attention import by_length


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Where each document begins among queries and among keys, int32 as kernels take it, and the longest of each."""

    query_offsets: Tensor
    key_offsets: Tensor
    max_query: int
    max_key: int

    def mask(self, *, rows: int, length: int, window: int | None) -> Tensor:
        """Who sees whom in whole rows. Shape: (B, 1, L, L)."""
        at_T = torch.arange(rows * length, device=self.query_offsets.device)
        document_BL = torch.searchsorted(self.query_offsets, at_T, right=True).view(rows, length)
        distance_LL = at_T[:length, None] - at_T[None, :length]
        seen_LL = (distance_LL >= 0) & (distance_LL < (window or length))
        return (seen_LL & (document_BL[:, :, None] == document_BL[:, None, :]))[:, None]


class Kernel(Protocol):
    """Causal within each document. Shapes: (T, H, D), (S, G, D) and (S, G, D); returns (T, H, D)."""

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, pieces: Pieces, *, scale: float, window: int | None
    ) -> Tensor: ...


def reference(query: Tensor, key: Tensor, value: Tensor, pieces: Pieces, *, scale: float, window: int | None) -> Tensor:
    """One document after the other."""
    found = []
    bounds = zip(pairwise(pieces.query_offsets.tolist()), pairwise(pieces.key_offsets.tolist()), strict=True)
    for (begin, end), (key_begin, key_end) in bounds:
        if begin == end:
            continue
        own, keys, values = query[begin:end], key[key_begin:key_end], value[key_begin:key_end]
        at = torch.arange(len(own), device=query.device) + len(keys) - len(own)
        distance = at[:, None] - torch.arange(len(keys), device=query.device)
        seen = (distance >= 0) & (distance < (window or len(keys)))
        own, keys, values = (one.transpose(0, 1)[None] for one in (own, keys, values))
        output = functional.scaled_dot_product_attention(
            own, keys, values, attn_mask=seen, scale=scale, enable_gqa=True
        )
        found.append(output[0].transpose(0, 1))
    return torch.cat(found)


def alike_at_once(
    query: Tensor, key: Tensor, value: Tensor, pieces: Pieces, *, scale: float, window: int | None
) -> Tensor:
    """On the CPU: whole documents, those of one length at once."""
    if pieces.key_offsets is not pieces.query_offsets or torch.compiler.is_compiling():
        return reference(query, key, value, pieces, scale=scale, window=window)
    sizes = tuple(size for size in pieces.query_offsets.diff().tolist() if size)
    return by_length.attention(query, key, value, sizes, scale=scale, window=window)


KERNELS: dict[str, Kernel] = {}
"""By kinds of devices, those that were asked for: a lookup is all that a compiled block has to trace."""


def kernel_for(device: str) -> Kernel | None:
    """The best that is installed for a kind of device; None where there is none."""
    if device == "cpu":
        found: Kernel | None = alike_at_once
    else:
        found = (_torch_kernel() or _flash_kernel()) if device == "cuda" else None
    if found is not None:
        KERNELS[device] = found
    return found


@cache
def _torch_kernel() -> Kernel | None:
    """``torch.nn.attention.varlen``, from the version on that takes windows and scales."""
    try:
        varlen_attn: Any = importlib.import_module("torch.nn.attention.varlen").varlen_attn
    except (ImportError, AttributeError):
        return None
    taken = inspect.signature(varlen_attn).parameters
    if not {"window_size", "scale"} <= set(taken):
        return None
    takes_groups = "enable_gqa" in taken

    def kernel(
        query: Tensor, key: Tensor, value: Tensor, pieces: Pieces, *, scale: float, window: int | None
    ) -> Tensor:
        shared = query.shape[1] // key.shape[1]
        options: dict[str, Any] = {"scale": scale, "window_size": _sides(window)}
        if takes_groups:
            options["enable_gqa"] = shared > 1
        elif shared > 1:
            key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
        offsets = (pieces.query_offsets, pieces.key_offsets, pieces.max_query, pieces.max_key)
        found: Tensor = varlen_attn(query, key, value, *offsets, **options)
        return found

    return kernel


@cache
def _flash_kernel() -> Kernel | None:
    """FlashAttention 2 (Dao 2023, arXiv:2307.08691) of the package ``flash-attn``."""
    try:
        flash_attn_varlen_func: Any = importlib.import_module("flash_attn").flash_attn_varlen_func
    except (ImportError, AttributeError):
        return None

    def kernel(
        query: Tensor, key: Tensor, value: Tensor, pieces: Pieces, *, scale: float, window: int | None
    ) -> Tensor:
        found: Tensor = flash_attn_varlen_func(
            query,
            key,
            value,
            cu_seqlens_q=pieces.query_offsets,
            cu_seqlens_k=pieces.key_offsets,
            max_seqlen_q=pieces.max_query,
            max_seqlen_k=pieces.max_key,
            softmax_scale=scale,
            causal=True,
            window_size=_sides(window),
        )
        return found

    return kernel


def _sides(window: int | None) -> tuple[int, int]:
    """Keys that a query sees before its own, −1 for all, and behind it."""
    return (-1 if window is None else window - 1, 0)
