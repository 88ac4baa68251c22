"""Which rows of a batch belong to which adapter slot: worked out once per step, used by every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

Rows: TypeAlias = slice | torch.Tensor
"""Row numbers of one segment: a slice where they lie side by side (a view, no copy), else an index tensor."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The rows of one adapter slot in a batch."""

    slot: int
    rows: Rows
    num_rows: int


def group_by_slot(slots: Sequence[int]) -> tuple[Segment, ...]:
    """Group the rows of a batch by adapter slot.

    `slots` gives each row's slot, shape [rows]; a negative slot is a row of the base, which belongs to no segment
    and so is never touched. Segments come in the order of their slots.
    """
    rows_of: dict[int, list[int]] = {}
    for row, slot in enumerate(slots):
        if slot >= 0:
            rows_of.setdefault(slot, []).append(row)
    return tuple(Segment(slot=slot, rows=_compact(rows), num_rows=len(rows)) for slot, rows in sorted(rows_of.items()))


def _compact(rows: list[int]) -> Rows:
    first, last = rows[0], rows[-1]
    if last - first + 1 == len(rows):
        return slice(first, last + 1)
    return torch.tensor(rows, dtype=torch.long)
