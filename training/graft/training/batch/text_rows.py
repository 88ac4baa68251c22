"""Rows of text as the batches of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

import numpy as np
import torch

from graft.training.batch.batch import Batch
from graft.training.batch.data import WHOLE, Share
from graft.training.batch.order import OrderedRows
from graft.training.batch.others import Others
from graft.training.batch.packing import IGNORED, PackedBatch
from graft.training.corpus.shards.stream import TokenStream
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

    def __init__(
        self, documents: Sequence[Sentences] | TokenStream, *, length: int, end_id: int, pad_id: int, **order: int
    ) -> None:
        """Of a stream, whose documents are ended already, only the rows of a step are read. ``order`` as in
        ``OrderedRows``.
        """
        if not isinstance(documents, TokenStream):
            documents = TokenStream.of(map(flat, documents), end_id)
        self._stream = documents
        self._length, self._pad_id = length, pad_id
        super().__init__(-(-self._stream.num_tokens // length), **order)

    def batches(self, step: int, share: Share = WHOLE) -> list[PackedBatch]:
        batches = self._numbers(step)
        return [
            self._batch(batches[0]).silent() if rows is None else self._batch(rows) for rows in share.alike(batches)
        ]

    @property
    def num_tokens(self) -> int:
        """Of all documents, their ends included."""
        return self._stream.num_tokens

    def documents(self) -> Iterator[list[int]]:
        """Every document's tokens, without its end."""
        return self._stream.documents()

    def in_order(self, rows_per_batch: int) -> Iterator[PackedBatch]:
        """Every row once."""
        for at in range(0, self.num_rows, rows_per_batch):
            yield self._batch(range(at, min(at + rows_per_batch, self.num_rows)))

    def _batch(self, rows: Sequence[int]) -> PackedBatch:
        shape = (len(rows), self._length)
        ids_BL, labels_BL = torch.full(shape, self._pad_id), torch.full(shape, IGNORED)
        position_BL, document_BL = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        for number, row in enumerate(rows):
            begin = row * self._length
            span = self._stream.span(begin, min(begin + self._length, self._stream.num_tokens))
            size, begins = len(span.ids_N), np.concatenate(([0], span.ends_D))
            document = np.repeat(np.arange(len(begins)), np.diff(begins, append=size))
            follows = document[1:] == document[:-1]
            ids_BL[number, :size] = torch.from_numpy(span.ids_N)
            labels_BL[number, : size - 1] = torch.from_numpy(np.where(follows, span.ids_N[1:], IGNORED))
            position_BL[number, :size] = torch.from_numpy(np.arange(size) - begins[document])
            document_BL[number, :size] = torch.from_numpy(document + 1)
        return PackedBatch(
            input_ids_BL=ids_BL, labels_BL=labels_BL, position_ids_BL=position_BL, document_BL=document_BL
        )
