"""In which order rows are read, and how many in a step."""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from graft.training.batch.permutation import Permutation
from graft.training.errors import DataError

MAX_LISTED = 1 << 18
"""Rows whose order is a shuffled list, of 10 MB at most. That of more is computed: of 10^8 a list would take 3.6 GB and
minutes in each epoch.
"""


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


class OrderedRows:
    """Row numbers without an end, dealt out to steps: all of them in a new random order in each epoch."""

    def __init__(
        self, num_rows: int, *, rows_per_batch: int, batches_per_step: int, seed: int, warmup_steps: int = 0
    ) -> None:
        """Raises ``DataError`` where there are not enough for one step."""
        per_step = rows_per_batch * batches_per_step
        if num_rows < per_step:
            raise DataError(
                f"the text makes {num_rows} rows, and a step takes {per_step}: give more text, or take fewer or "
                "shorter rows."
            )
        self.num_rows, self.steps_per_epoch = num_rows, -(-num_rows // per_step)
        self._rows_per_batch, self._seed = rows_per_batch, seed
        self._size = BatchSize(batches_per_step=batches_per_step, warmup_steps=warmup_steps)

    def num_steps(self, epochs: float) -> int:
        """The fewest steps that read every row so many times, a rising batch size included."""
        wanted = math.ceil(round(epochs * self.num_rows, 6) / self._rows_per_batch)
        warm = self._size.warmup_steps
        after = wanted - self._size.before(warm)
        if after > 0:
            return warm + math.ceil(after / self._size.batches_per_step)
        return bisect_left(range(warm), wanted, key=self._size.before)

    def _numbers(self, step: int) -> list[list[int]]:
        """Of the rows of each micro-batch."""
        per_batch = self._rows_per_batch
        rows = list(self._drawn(self._size.before(step) * per_batch, self._size.at(step) * per_batch))
        return [rows[at : at + per_batch] for at in range(0, len(rows), per_batch)]

    def _drawn(self, start: int, num: int) -> Iterator[int]:
        while num:
            epoch, position = divmod(start, self.num_rows)
            taken = random_order(self.num_rows, f"{self._seed}/{epoch}")[position : position + num]
            yield from taken
            start, num = start + len(taken), num - len(taken)


def random_order(num: int, seed: str) -> Sequence[int]:
    """The numbers below ``num`` in a random order: of few a list, of many one that takes no memory."""
    return shuffled(num, seed) if num <= MAX_LISTED else Permutation(num, seed)


@functools.lru_cache(maxsize=2)
def shuffled(num: int, seed: str) -> Sequence[int]:
    """The numbers below ``num`` in a random order."""
    order = list(range(num))
    Random(seed).shuffle(order)
    return order
