"""Rows in micro-batches that are filled up to a number of tokens, in place of a number of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from graft.training.batch.order import shuffled
from graft.training.batch.packing import best_fit, padded

Line = Sequence[int]
"""Numbers of the rows that stand side by side in a line of a batch."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Deals out whole epochs: a function of the step alone."""

    sizes: Sequence[int]
    """Tokens of each row."""
    tokens: int
    """Of a micro-batch, padding counted."""
    length: int
    """Tokens of a line into which rows are packed, ``tokens`` at most; no row has more."""
    packing: bool
    batches_per_step: int
    seed: int
    order: Callable[[int], Sequence[int]]
    """Numbers of the rows of an epoch."""
    are_alike: bool = True
    """Whether every epoch reads the same rows, in another order."""

    @property
    def steps_per_epoch(self) -> int:
        """Of the first epoch; where epochs read other rows, others may have some more or less."""
        return self._steps(0)

    def num_steps(self, epochs: float) -> int:
        """Steps that see every row so many times."""
        whole = int(epochs)
        return self._begin(whole) + math.ceil(round(self._steps(whole) * (epochs - whole), 6))

    def lines(self, step: int) -> list[list[Line]]:
        """Of each micro-batch of a step."""
        epoch = step // self._steps(0) if self._have_as_many else 0
        while not self._have_as_many and step >= self._begin(epoch + 1):
            epoch += 1
        at = (step - self._begin(epoch)) * self.batches_per_step
        return self._planned(epoch)[at : at + self.batches_per_step]

    @cached_property
    def _have_as_many(self) -> bool:
        """Whether every epoch has as many batches: best-fit decreasing goes by the rows' lengths alone."""
        return self.packing and self.are_alike

    def _begin(self, epoch: int) -> int:
        """Steps of all epochs before this one."""
        return epoch * self._steps(0) if self._have_as_many else sum(map(self._steps, range(epoch)))

    def _steps(self, epoch: int) -> int:
        number = 0 if self._have_as_many else epoch
        if number not in self._known_steps:
            self._known_steps[number] = -(-len(self._planned(number)) // self.batches_per_step)
        return self._known_steps[number]

    @cached_property
    def _known_steps(self) -> dict[int, int]:
        return {}

    @cached_property
    def _plans(self) -> dict[int, list[list[Line]]]:
        return {}

    def _planned(self, epoch: int) -> list[list[Line]]:
        """The lines of each of an epoch's batches. Two plans are kept: batches are made a step ahead."""
        if epoch not in self._plans:
            while len(self._plans) > 1:
                self._plans.pop(next(iter(self._plans)))
            self._plans[epoch] = list(self._packed(epoch) if self.packing else self._filled(epoch))
        return self._plans[epoch]

    def _packed(self, epoch: int) -> Iterator[list[Line]]:
        """The lines of a whole epoch, shuffled: long rows would come first."""
        order, per_batch = self.order(epoch), self.tokens // self.length
        packed = best_fit([self.sizes[row] for row in order], length=self.length)
        mixed = shuffled(len(packed), f"{self.seed}/{epoch}/lines")
        for at in range(0, len(packed), per_batch):
            yield [[order[place] for place in packed[number]] for number in mixed[at : at + per_batch]]

    def _filled(self, epoch: int) -> Iterator[list[Line]]:
        """A row in each line, as many as the budget holds when all are as long as the longest."""
        batch: list[Line] = []
        longest = 0
        for row in self.order(epoch):
            longest = max(longest, padded(self.sizes[row]))
            if batch and longest * (len(batch) + 1) > self.tokens:
                yield batch
                batch, longest = [], padded(self.sizes[row])
            batch.append([row])
        yield batch
