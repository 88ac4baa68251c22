"""In which order rows are read, and how many in a step."""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from graft.training.errors import DataError


@dataclass(frozen=True, kw_only=True)
class BatchSize:
    """Micro-batches of each step. With ``warmup_steps`` they rise to their number: early gradients agree, and a few
    rows show as much as many (McCandlish et al. 2018, arXiv:1812.06162).
    """

    batches_per_step: int
    warmup_steps: int = 0

    def at(self, step: int) -> int:
        if step >= self.warmup_steps:
            return self.batches_per_step
        return 1 + (self.batches_per_step - 1) * step // self.warmup_steps

    def before(self, step: int) -> int:
        """Micro-batches of all steps before this one."""
        warm = min(step, self.warmup_steps)
        return sum(map(self.at, range(warm))) + (step - warm) * self.batches_per_step


@dataclass(frozen=True, kw_only=True)
class Order:
    """Row numbers without an end: all of them in a new random order in each epoch."""

    num_rows: int
    rows_per_batch: int
    size: BatchSize
    seed: int

    def __post_init__(self) -> None:
        if self.num_rows < self.rows_per_step:
            raise DataError(
                f"the text makes {self.num_rows} rows, and a step takes {self.rows_per_step}: give more text, or take "
                "fewer or shorter rows."
            )

    @property
    def rows_per_step(self) -> int:
        return self.rows_per_batch * self.size.batches_per_step

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_rows // self.rows_per_step)

    def num_steps(self, epochs: float) -> int:
        """The fewest steps that read every row so many times, a rising batch size included."""
        wanted = math.ceil(round(epochs * self.num_rows, 6) / self.rows_per_batch)
        warm = self.size.warmup_steps
        after = wanted - self.size.before(warm)
        if after > 0:
            return warm + math.ceil(after / self.size.batches_per_step)
        return bisect_left(range(warm), wanted, key=self.size.before)

    def batches(self, step: int) -> list[list[int]]:
        start = self.size.before(step) * self.rows_per_batch
        rows = list(self._rows(start, self.size.at(step) * self.rows_per_batch))
        return [rows[at : at + self.rows_per_batch] for at in range(0, len(rows), self.rows_per_batch)]

    def _rows(self, start: int, num: int) -> Iterator[int]:
        while num:
            epoch, position = divmod(start, self.num_rows)
            taken = shuffled(self.num_rows, f"{self.seed}/{epoch}")[position : position + num]
            yield from taken
            start, num = start + len(taken), num - len(taken)


@functools.lru_cache(maxsize=2)
def shuffled(num: int, seed: str) -> Sequence[int]:
    """The numbers below ``num`` in a random order."""
    order = list(range(num))
    Random(seed).shuffle(order)
    return order


class Ordered:
    """What is known of rows that an order deals out to steps."""

    _order: Order

    @property
    def num_rows(self) -> int:
        return self._order.num_rows

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    def num_steps(self, epochs: float) -> int:
        """Steps that read every row so many times."""
        return self._order.num_steps(epochs)

    def num_batches(self, num_steps: int) -> int:
        """Micro-batches of so many steps."""
        return self._order.size.before(num_steps)
