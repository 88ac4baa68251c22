"""Rows of text as the batches of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random

import torch

from graft.training.batch.batch import Batch
from graft.training.batch.data import WHOLE, Share
from graft.training.batch.order import OrderedRows
from graft.training.batch.others import Others
from graft.training.batch.packing import IGNORED, PackedBatch
from graft.training.corpus.texts import Sentences, flat


class TextRows(OrderedRows):
    """Rows of text for an objective that masks, cuts or permutes them: anew in each epoch."""

    def __init__(
        self,
        documents: Sequence[Sequence[Sentences]],
        collate: Callable[..., Batch],
        *,
        others: Others | None = None,
        **order: int,
    ) -> None:
        """``documents`` are the rows that each makes; ``order`` as in ``OrderedRows``."""
        self._documents, self._collate, self._others = documents, collate, others
        self._rows = [row for document in documents for row in document]
        super().__init__(len(self._rows), **order)

    def batches(self, step: int, share: Share = WHOLE) -> list[Batch]:
        numbered = list(enumerate(self._numbers(step)))
        return [
            self._batch(step, *numbered[0]).silent() if one is None else self._batch(step, *one)
            for one in share.alike(numbered)
        ]

    def documents(self) -> Iterator[list[int]]:
        """Every document's tokens."""
        return ([one for row in document for one in flat(row)] for document in self._documents)

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


class PackedText(OrderedRows):
    """Documents one after the other in full rows, each ended by ``end_id``, for causal models.

    A document that does not fit goes on in the next row, where nothing of it is seen any more.
    """

    def __init__(self, documents: Sequence[Sentences], *, length: int, end_id: int, pad_id: int, **order: int) -> None:
        """``order`` as in ``OrderedRows``."""
        pieces = [torch.tensor([*flat(document), end_id], dtype=torch.int32) for document in documents]
        self._ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0)
        """Where in the stream each document is over."""
        self._stream = torch.cat(pieces)
        self._length, self._pad_id = length, pad_id
        super().__init__(-(-len(self._stream) // length), **order)

    def batches(self, step: int, share: Share = WHOLE) -> list[PackedBatch]:
        batches = self._numbers(step)
        return [
            self._batch(batches[0]).silent() if rows is None else self._batch(rows) for rows in share.alike(batches)
        ]

    def documents(self) -> Iterator[list[int]]:
        """Every document's tokens, without its end."""
        begins = [0, *self._ends.tolist()]
        return (self._stream[begin : end - 1].tolist() for begin, end in pairwise(begins))

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
