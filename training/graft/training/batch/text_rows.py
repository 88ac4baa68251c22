"""Rows of text as the batches of a run."""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch

from graft.training.batch.batch import Batch
from graft.training.batch.data import WHOLE, Share
from graft.training.batch.others import Others
from graft.training.batch.packing import IGNORED, PackedBatch
from graft.training.corpus.sentences import Sentences, flat
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
            taken = _shuffled(self.num_rows, f"{self.seed}/{epoch}")[position : position + num]
            yield from taken
            start, num = start + len(taken), num - len(taken)


@functools.lru_cache(maxsize=2)
def _shuffled(num: int, seed: str) -> Sequence[int]:
    order = list(range(num))
    Random(seed).shuffle(order)
    return order


class _Stepped:
    """What is known of rows that an order deals out to steps."""

    _order: _Order

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


class TextRows(_Stepped):
    """Rows of text for an objective that masks, cuts or permutes them: anew in each epoch."""

    def __init__(
        self,
        rows: Sequence[Sentences],
        collate: Callable[..., Batch],
        *,
        others: Others | None = None,
        rows_per_batch: int,
        batches_per_step: int,
        seed: int,
        warmup_steps: int = 0,
    ) -> None:
        self._rows, self._collate, self._others, self._seed = rows, collate, others, seed
        size = BatchSize(batches_per_step=batches_per_step, warmup_steps=warmup_steps)
        self._order = _Order(num_rows=len(rows), rows_per_batch=rows_per_batch, size=size, seed=seed)

    def batches(self, step: int, share: Share = WHOLE) -> list[Batch]:
        numbered = list(enumerate(self._order.batches(step)))
        return [
            self._batch(step, *numbered[0]).silent() if one is None else self._batch(step, *one)
            for one in share.alike(numbered)
        ]

    def in_order(self, rows_per_batch: int) -> Iterator[Batch]:
        """Every row once, always corrupted alike."""
        generator = torch.Generator().manual_seed(self._seed)
        for at in range(0, self.num_rows, rows_per_batch):
            yield self._collated(range(at, min(at + rows_per_batch, self.num_rows)), generator)

    def _batch(self, step: int, number: int, chosen: Sequence[int]) -> Batch:
        # Drawn for the micro-batch, so it is the same whichever process makes it.
        generator = torch.Generator().manual_seed(Random(f"{self._seed}/{step}/{number}").getrandbits(63))
        return self._collated(chosen, generator)

    def _collated(self, chosen: Sequence[int], generator: torch.Generator) -> Batch:
        rows = [self._rows[row] for row in chosen]
        if self._others is None:
            return self._collate(rows, generator)
        return self._collate(rows, generator, [self._others.draw(row, generator) for row in chosen])


class PackedText(_Stepped):
    """Documents one after the other in full rows, each ended by ``end_id``, for causal models.

    A document that does not fit goes on in the next row, where nothing of it is seen any more.
    """

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
    ) -> None:
        pieces = [torch.tensor([*flat(document), end_id], dtype=torch.int32) for document in documents]
        self._ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0)
        """Where in the stream each document is over."""
        self._stream = torch.cat(pieces)
        self._length, self._pad_id = length, pad_id
        size = BatchSize(batches_per_step=batches_per_step, warmup_steps=warmup_steps)
        num_rows = -(-len(self._stream) // length)
        self._order = _Order(num_rows=num_rows, rows_per_batch=rows_per_batch, size=size, seed=seed)

    def batches(self, step: int, share: Share = WHOLE) -> list[PackedBatch]:
        batches = self._order.batches(step)
        return [
            self._batch(batches[0]).silent() if rows is None else self._batch(rows) for rows in share.alike(batches)
        ]

    def in_order(self, rows_per_batch: int) -> Iterator[PackedBatch]:
        """Every row once."""
        for at in range(0, self.num_rows, rows_per_batch):
            yield self._batch(range(at, min(at + rows_per_batch, self.num_rows)))

    def _batch(self, rows: Sequence[int]) -> PackedBatch:
        at_BL = torch.tensor(rows)[:, None] * self._length + torch.arange(self._length)
        is_text_BL = at_BL < len(self._stream)
        at_BL = at_BL.clamp(max=len(self._stream) - 1)
        document_BL = torch.searchsorted(self._ends, at_BL, right=True)
        begin_BL = torch.where(document_BL > 0, self._ends[document_BL - 1], 0).maximum(at_BL[:, :1])
        ids_BL = torch.where(is_text_BL, self._stream[at_BL].long(), self._pad_id)
        follows_BL = torch.zeros_like(is_text_BL)
        follows_BL[:, :-1] = is_text_BL[:, 1:] & (document_BL[:, 1:] == document_BL[:, :-1])
        return PackedBatch(
            input_ids_BL=ids_BL,
            labels_BL=torch.where(follows_BL, ids_BL.roll(-1, dims=1), IGNORED),
            position_ids_BL=torch.where(is_text_BL, at_BL - begin_BL, 0),
            document_BL=torch.where(is_text_BL, document_BL - document_BL[:, :1] + 1, 0),
        )
