"""Rows of text as the batches of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch

from graft.training.corpus.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.data import WHOLE, Share
from graft.training.errors import DataError
from graft.training.objective.objective import Batch, Sentences, flat


@dataclass(frozen=True, kw_only=True)
class BatchSize:
    """Micro-batches of each step. With ``warmup_steps`` they rise to their number: early gradients agree, and a few
    rows show as much as many (McCandlish et al. 2018, arXiv:1812.06162).
    """

    batches_per_step: int
    warmup_steps: int = 0
    groups: int = 1
    """Always a multiple of this: each data-parallel process has as many as the others."""

    def at(self, step: int) -> int:
        units = self.batches_per_step // self.groups
        risen = units if step >= self.warmup_steps else 1 + (units - 1) * step // self.warmup_steps
        return risen * self.groups

    def before(self, step: int) -> int:
        """Micro-batches of all steps before this one."""
        warm = min(step, self.warmup_steps)
        return sum(map(self.at, range(warm))) + (step - warm) * self.batches_per_step


@dataclass(frozen=True, kw_only=True)
class _Order:
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

    def batches(self, step: int) -> list[list[int]]:
        start = self.size.before(step) * self.rows_per_batch
        rows = list(self._rows(start, self.size.at(step) * self.rows_per_batch))
        return [rows[at : at + self.rows_per_batch] for at in range(0, len(rows), self.rows_per_batch)]

    def _rows(self, start: int, num: int) -> Iterator[int]:
        while num:
            epoch, position = divmod(start, self.num_rows)
            order = list(range(self.num_rows))
            Random(f"{self.seed}/{epoch}").shuffle(order)
            taken = order[position : position + num]
            yield from taken
            start, num = start + len(taken), num - len(taken)


class TextRows:
    """Rows of text for an objective that masks, cuts or permutes them: anew in each epoch."""

    def __init__(
        self,
        rows: Sequence[Sentences],
        collate: Callable[[Sequence[Sentences], torch.Generator], Batch],
        *,
        rows_per_batch: int,
        batches_per_step: int,
        seed: int,
        warmup_steps: int = 0,
        groups: int = 1,
    ) -> None:
        self._rows, self._collate, self._seed = rows, collate, seed
        size = BatchSize(batches_per_step=batches_per_step, warmup_steps=warmup_steps, groups=groups)
        self._order = _Order(num_rows=len(rows), rows_per_batch=rows_per_batch, size=size, seed=seed)

    @property
    def num_rows(self) -> int:
        return self._order.num_rows

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    def batches(self, step: int, share: Share = WHOLE) -> list[Batch]:
        return [
            self._batch(step, number, rows) for number, rows in share.of(list(enumerate(self._order.batches(step))))
        ]

    def in_order(self, rows_per_batch: int) -> list[Batch]:
        """Every row once, always corrupted alike."""
        generator = torch.Generator().manual_seed(self._seed)
        starts = range(0, len(self._rows), rows_per_batch)
        return [self._collate(self._rows[at : at + rows_per_batch], generator) for at in starts]

    def _batch(self, step: int, number: int, chosen: Sequence[int]) -> Batch:
        # Drawn for the micro-batch, so it is the same whichever process makes it.
        generator = torch.Generator().manual_seed(Random(f"{self._seed}/{step}/{number}").getrandbits(63))
        return self._collate([self._rows[row] for row in chosen], generator)


class PackedText:
    """Documents one after the other in full rows, each ended by ``end_id``, for causal models."""

    def __init__(
        self,
        documents: Sequence[Sentences],
        *,
        length: int,
        end_id: int,
        pad_id: int,
        rows_per_batch: int,
        batches_per_step: int,
        seed: int,
        warmup_steps: int = 0,
        groups: int = 1,
    ) -> None:
        self._lines = _full_rows([[*flat(document), end_id] for document in documents], length)
        self._length, self._pad_id = length, pad_id
        size = BatchSize(batches_per_step=batches_per_step, warmup_steps=warmup_steps, groups=groups)
        self._order = _Order(num_rows=len(self._lines), rows_per_batch=rows_per_batch, size=size, seed=seed)

    @property
    def num_rows(self) -> int:
        return self._order.num_rows

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    def batches(self, step: int, share: Share = WHOLE) -> list[PackedBatch]:
        return [self._batch([self._lines[row] for row in rows]) for rows in share.of(self._order.batches(step))]

    def in_order(self, rows_per_batch: int) -> list[PackedBatch]:
        """Every row once."""
        starts = range(0, len(self._lines), rows_per_batch)
        return [self._batch(self._lines[at : at + rows_per_batch]) for at in starts]

    def _batch(self, lines: Sequence[list[Encoded]]) -> PackedBatch:
        return batch_of_rows(lines, length=self._length, pad_id=self._pad_id)


def _full_rows(documents: Sequence[Sequence[int]], length: int) -> list[list[Encoded]]:
    """A document that does not fit goes on in the next row."""
    rows: list[list[Encoded]] = [[]]
    room = length
    for ids in documents:
        at = 0
        while at < len(ids):
            piece = ids[at : at + room]
            rows[-1].append(Encoded(input_ids=piece, supervised=[True] * len(piece)))
            at += len(piece)
            room -= len(piece)
            if room == 0:
                rows.append([])
                room = length
    return rows if rows[-1] else rows[:-1]
