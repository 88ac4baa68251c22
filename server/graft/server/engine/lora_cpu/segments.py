"""Which rows of a batch belong to which adapter slot: worked out once per step, used by every layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Segments:
    """The rows of a batch that belong to adapters, grouped by slot; rows of the base are in no group.

    `rows` [rows of adapters] holds row numbers, `starts` [segments + 1] where each segment begins in it, `slots`
    [segments] whose it is, all int32. `num_rows` counts the batch's rows, those of the base included.
    """

    def __init__(self, slots: Sequence[int] = ()) -> None:
        """`slots` gives each row's slot, shape [rows]; a negative slot is a row of the base."""
        slot_of = np.asarray(slots, dtype=np.int32)
        order = np.argsort(slot_of, kind="stable").astype(np.int32)
        self.rows = np.ascontiguousarray(order[np.count_nonzero(slot_of < 0) :])
        self.slots, starts = np.unique(slot_of[self.rows], return_index=True)
        self.starts = np.append(starts, len(self.rows)).astype(np.int32)
        self.num_rows = len(slot_of)

    def __len__(self) -> int:
        return len(self.slots)
