"""What is learned from a row, and rows of them as a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graft.training.batch.packing import IGNORED, LENGTH_STEP

IDS, TYPES, MASK = "input_ids", "token_type_ids", "attention_mask"


@dataclass(frozen=True, kw_only=True)
class Example:
    """Tokens, and what is asked about them."""

    ids: Sequence[int]
    types: Sequence[int] = ()
    asked: Mapping[str, int | float | Sequence[int]] = field(default_factory=dict)
    row: int = 0
    """Which row of the file, from 0: one may make several examples."""

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    @property
    def sequences(self) -> Sequence[Sequence[int]]:
        """What a model reads at once."""
        return [self.ids]


def inputs_of(rows: Sequence[Example], *, pad_id: int, has_types: bool) -> dict[str, Tensor]:
    """What a model is called with. Shape of each: (B, L)."""
    length = padded_length(max(row.num_tokens for row in rows))
    made = {
        IDS: filled([row.ids for row in rows], length, pad_id),
        MASK: filled([[1] * row.num_tokens for row in rows], length, 0),
    }
    return {**made, TYPES: filled([row.types for row in rows], length, 0)} if has_types else made


def padded_length(longest: int) -> int:
    return -(-longest // LENGTH_STEP) * LENGTH_STEP


def filled(rows: Sequence[Sequence[int]], length: int, fill: int = IGNORED) -> Tensor:
    """Rows filled up at their end. Shape: (B, L)."""
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows], dtype=torch.long)
