"""Encoded rows in batches: a new random order each epoch, every row whole."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graft.training.batch.data import WHOLE, Share
from graft.training.batch.order import shuffled
from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows, lines_of


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
        num = len(self.rows)
        order = shuffled(num, f"{self.seed}/{epoch}") if self.is_shuffled else range(num)
        per_step = self.rows_per_batch * self.batches_per_step
        chosen = [self.rows[index] for index in order[position * per_step : (position + 1) * per_step]]
        batches = [chosen[start : start + self.rows_per_batch] for start in range(0, len(chosen), self.rows_per_batch)]
        return [
            self._batch(chosen[:1]).silent() if rows is None else self._batch(rows) for rows in share.alike(batches)
        ]

    def _batch(self, rows: Sequence[Encoded]) -> PackedBatch:
        lines, length = lines_of(rows, packing=self.packing)
        return batch_of_rows(lines, length=length, pad_id=self.pad_id)
