"""Encoded rows in batches: a new random order each epoch, every row whole."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from graft.training.batch.data import WHOLE, Share
from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows

LENGTH_STEP = 32
"""Rows are padded to a multiple of this. The CPU's matrix library keeps compiled code and buffers for every shape that
it has seen: with lengths as they come, 60 steps took 1.3 GB, with these 0.7 GB, and less time."""


@dataclass(frozen=True, kw_only=True)
class SupervisedRows:
    """Rows in a new random order each epoch. The mean is taken over the supervised tokens of the whole step, not batch
    by batch.
    """

    rows: Sequence[Encoded]
    rows_per_batch: int
    batches_per_step: int
    """Gradient accumulation."""
    packing: bool
    """Several rows in one line of the batch. It changes the padding, not the loss: attention stays within each row."""
    pad_id: int
    seed: int
    is_shuffled: bool = True

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.rows) // (self.rows_per_batch * self.batches_per_step))

    def num_steps(self, epochs: float) -> int:
        """Steps that see every row so many times."""
        return math.ceil(self.steps_per_epoch * epochs)

    def batches(self, step: int, share: Share = WHOLE) -> list[PackedBatch]:
        epoch, position = divmod(step, self.steps_per_epoch)
        order = list(range(len(self.rows)))
        if self.is_shuffled:
            Random(f"{self.seed}/{epoch}").shuffle(order)
        per_step = self.rows_per_batch * self.batches_per_step
        chosen = [self.rows[index] for index in order[position * per_step : (position + 1) * per_step]]
        batches = [chosen[start : start + self.rows_per_batch] for start in range(0, len(chosen), self.rows_per_batch)]
        return [
            self._batch(chosen[:1]).silent() if rows is None else self._batch(rows) for rows in share.alike(batches)
        ]

    def _batch(self, rows: Sequence[Encoded]) -> PackedBatch:
        longest = max(len(row.input_ids) for row in rows)
        length = -(-longest // LENGTH_STEP) * LENGTH_STEP
        lines = _first_fit(rows, length) if self.packing else [[row] for row in rows]
        return batch_of_rows(lines, length=length, pad_id=self.pad_id)


def _first_fit(rows: Sequence[Encoded], length: int) -> list[list[Encoded]]:
    """First-fit decreasing: each row, longest first, goes into the first line that has room."""
    lines: list[list[Encoded]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda each: -len(each.input_ids)):
        size = len(row.input_ids)
        fitting = next((index for index, left in enumerate(room) if left >= size), None)
        if fitting is None:
            lines.append([row])
            room.append(length - size)
        else:
            lines[fitting].append(row)
            room[fitting] -= size
    return lines
