"""Encoded rows in batches: a new random order each epoch, every row whole."""

from collections.abc import Sequence
from dataclasses import dataclass

from graft.training.batch.data import WHOLE, Share
from graft.training.batch.epochs import Epochs
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
        return self._epochs.steps_per_epoch

    def num_steps(self, epochs: float) -> int:
        """Steps that see every row so many times."""
        return self._epochs.num_steps(epochs)

    def batches(self, step: int, share: Share = WHOLE) -> list[PackedBatch]:
        batches = [[self.rows[number] for number in numbers] for numbers in self._epochs.numbers(step)]
        return [
            self._batch(batches[0][:1]).silent() if rows is None else self._batch(rows) for rows in share.alike(batches)
        ]

    @property
    def _epochs(self) -> Epochs:
        return Epochs(
            num_rows=len(self.rows),
            rows_per_batch=self.rows_per_batch,
            batches_per_step=self.batches_per_step,
            seed=self.seed,
            is_shuffled=self.is_shuffled,
        )

    def _batch(self, rows: Sequence[Encoded]) -> PackedBatch:
        lines, length = lines_of(rows, packing=self.packing)
        return batch_of_rows(lines, length=length, pad_id=self.pad_id)
