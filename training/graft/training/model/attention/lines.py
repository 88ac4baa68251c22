"""Attention over tokens of several batches in one row: each batch's lines attend by themselves, as they would if the
model were called with that batch alone.

A registered attention of Hugging Face's models. Which batches there are comes to it as ``lines``, which models hand
down as they do the offsets of documents (``FlashAttentionKwargs``), and a ``placeholder`` keeps them from making masks.
Legend: B lines, H heads, L tokens of a line, T of all batches, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from graft.training.batch.documents import Documents
from graft.training.batch.packing import PackedBatch, Reach
from graft.training.model.attention import varlen
from graft.training.model.attention.in_blocks import BLOCK

NAME = "graft_lines"


@dataclass(frozen=True, kw_only=True)
class Lines:
    """One batch after the other, line after line."""

    batches: Sequence[PackedBatch]
    inner: str
    """The attention of each, by the name that transformers know."""
    _masks: dict[tuple[int, int, int | None], Tensor | None] = field(default_factory=dict)

    def pieces(self) -> list[tuple[int, int]]:
        """From which batch to which one is attended at once: short lines of one length, which are computed alike in any
        company.
        """
        found: list[tuple[int, int]] = []
        for number, batch in enumerate(self.batches):
            before = self.batches[number - 1].input_ids_BL.shape[1] if number else None
            if batch.input_ids_BL.shape[1] == before and before <= BLOCK and self.inner not in varlen.NAMES:
                found[-1] = (found[-1][0], number + 1)
            else:
                found.append((number, number + 1))
        return found

    def seen(self, begin: int, end: int, window: int | None) -> dict[str, Any]:
        """What tells the attention of the batches in between who sees whom."""
        if self.inner in varlen.NAMES:
            offsets = self.batches[begin].documents.arguments
            return {"attention_mask": None, "sliding_window": window, **offsets}
        return {"attention_mask": self.mask(begin, end, window)}

    @cached_property
    def documents(self) -> Documents:
        """Of all batches."""
        return Documents.together([one.documents for one in self.batches])

    def mask(self, begin: int, end: int, window: int | None) -> Tensor | None:
        """Of the batches in between. None where each line is one document without padding, and the causal one the same.
        Shape: (B, 1, L, L).
        """
        if (begin, end, window) not in self._masks:
            own, length = self.batches[begin:end], self.batches[begin].input_ids_BL.shape[1]
            is_plain = all(bool((one.document_BL == 1).all()) for one in own) and (window is None or length <= window)
            masks = [] if is_plain else [_mask(one, window) for one in own]
            self._masks[begin, end, window] = None if is_plain else torch.cat(masks)
        return self._masks[begin, end, window]


def _mask(batch: PackedBatch, window: int | None) -> Tensor:
    """As that which the model is called with, or makes itself: of a line with one document it takes each token of
    padding, whose places do not count on, for a document of its own.
    """
    mask_B1LL = batch.attention_mask(Reach(window=window))
    if batch.is_apart:
        padding_BL = batch.document_BL == 0
        others_LL = ~torch.eye(padding_BL.shape[1], dtype=torch.bool, device=padding_BL.device)
        mask_B1LL &= ~(padding_BL[:, None, :, None] & others_LL)
    return mask_B1LL


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
    lines: Lines | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Hugging Face's interface. Shapes: (1, H, T, D) and, of keys and values, (1, ≤ H, T, D); returns (1, T, H, D)."""
    if lines is None:
        raise RuntimeError(f"which lines there are does not reach the attention of {type(module).__name__}")
    if lines.inner == varlen.NAME and query.device.type == "cpu" and _goes_by_documents(query, value, options):
        # There a document is computed alike in any company.
        seen = {"sliding_window": sliding_window, **lines.documents.arguments}
        return varlen.attention(module, query, key, value, None, **seen, **options)
    sizes = [tuple(batch.input_ids_BL.shape) for batch in lines.batches]
    inner, found, start = ALL_ATTENTION_FUNCTIONS[lines.inner], [], 0
    for begin, end in lines.pieces():
        rows, length = sum(num for num, _ in sizes[begin:end]), sizes[begin][1]
        own = slice(start, start + rows * length)
        states = (one[0, :, own].unflatten(1, (rows, length)).transpose(0, 1) for one in (query, key, value))
        output_BLHD, _ = inner(module, *states, **lines.seen(begin, end, sliding_window), **options)
        found.append(output_BLHD.flatten(0, 1))
        start = own.stop
    return (found[0] if len(found) == 1 else torch.cat(found))[None], None


def _goes_by_documents(query: Tensor, value: Tensor, options: dict[str, Any]) -> bool:
    shapes = query.shape[-1], value.shape[-1]
    return varlen.obstacle(*shapes, dtype=query.dtype, device="cpu", **options) is None
