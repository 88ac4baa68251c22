"""Rows in epochs: all of them in a new random order in each, of which the last step has what is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graft.training.batch.mixture import Mixture
from graft.training.batch.order import shuffled


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """Numbers of rows, dealt out to steps: a function of the step alone."""

    num_rows: int
    rows_per_batch: int
    batches_per_step: int
    """Gradient accumulation."""
    seed: int
    is_shuffled: bool = True
    mixture: Mixture | None = None
    """Where an epoch does not read all rows once."""

    @property
    def steps_per_epoch(self) -> int:
        num_read = self.num_rows if self.mixture is None else self.mixture.num_rows
        return -(-num_read // (self.rows_per_batch * self.batches_per_step))

    def num_steps(self, epochs: float) -> int:
        """Steps that see every row so many times."""
        return math.ceil(self.steps_per_epoch * epochs)

    def numbers(self, step: int) -> list[Sequence[int]]:
        """Of the rows of each micro-batch of a step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = self.order(epoch)
        per_step = self.rows_per_batch * self.batches_per_step
        chosen = order[position * per_step : (position + 1) * per_step]
        return [chosen[start : start + self.rows_per_batch] for start in range(0, len(chosen), self.rows_per_batch)]

    def order(self, epoch: int) -> Sequence[int]:
        """Of the rows of an epoch."""
        if self.mixture is not None:
            return self.mixture.order(epoch)
        return shuffled(self.num_rows, f"{self.seed}/{epoch}") if self.is_shuffled else range(self.num_rows)
