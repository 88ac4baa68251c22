"""Encoded rows in batches: a new random order each epoch, every row whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from graft.training.batch.budget import Budget
from graft.training.batch.data import WHOLE, Share
from graft.training.batch.epochs import Epochs
from graft.training.batch.mixture import Mixture
from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows, lines_of, padded


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
    mixture: Mixture | None = None
    """Where an epoch does not read all rows once."""
    max_tokens: int | None = None
    """Of a micro-batch, in place of ``rows_per_batch``."""
    line_tokens: int | None = None
    """Then of a line into which rows are packed; None for ``max_tokens``."""
    has_one_line: bool = False
    """Whether a micro-batch is one line where rows are packed, so that next to nothing is padding: for an attention
    that costs no more then, since it goes by documents."""

    @property
    def steps_per_epoch(self) -> int:
        return self._dealt.steps_per_epoch

    def num_steps(self, epochs: float) -> int:
        """Steps that see every row so many times."""
        return self._dealt.num_steps(epochs)

    def batches(self, step: int, share: Share = WHOLE) -> list[PackedBatch]:
        if isinstance(self._dealt, Budget):
            planned = self._dealt.lines(step)
            return [
                self._filled(planned[0]).silent() if one is None else self._filled(one) for one in share.alike(planned)
            ]
        batches = [[self.rows[number] for number in numbers] for numbers in self._dealt.numbers(step)]
        return [
            self._batch(batches[0][:1]).silent() if rows is None else self._batch(rows) for rows in share.alike(batches)
        ]

    @cached_property
    def _dealt(self) -> Epochs | Budget:
        epochs = Epochs(
            num_rows=len(self.rows),
            rows_per_batch=self.rows_per_batch,
            batches_per_step=self.batches_per_step,
            seed=self.seed,
            is_shuffled=self.is_shuffled,
            mixture=self.mixture,
        )
        if self.max_tokens is None:
            return epochs
        return Budget(
            sizes=[len(row.input_ids) for row in self.rows],
            tokens=self.max_tokens,
            length=min(self.max_tokens, self.line_tokens or self.max_tokens),
            packing=self.packing,
            batches_per_step=self.batches_per_step,
            seed=self.seed,
            order=epochs.order,
            are_alike=self.mixture is None or self.mixture.are_alike,
        )

    def _batch(self, rows: Sequence[Encoded]) -> PackedBatch:
        lines, length = lines_of(rows, packing=self.packing)
        return self._laid_out(lines, length)

    def _filled(self, lines: Sequence[Sequence[int]]) -> PackedBatch:
        made = [[self.rows[row] for row in line] for line in lines]
        longest = max(sum(len(one.input_ids) for one in line) for line in made)
        length = padded(longest)
        if self.packing and isinstance(self._dealt, Budget):
            length = self._dealt.length  # the same in every batch
        return self._laid_out(made, length)

    def _laid_out(self, lines: Sequence[Sequence[Encoded]], length: int) -> PackedBatch:
        if self.packing and self.has_one_line:
            lines = [[one for line in lines for one in line]]
            length = padded(sum(len(one.input_ids) for one in lines[0]))
        return batch_of_rows(lines, length=length, pad_id=self.pad_id)
