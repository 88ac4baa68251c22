"""Token ids of many documents, one behind the other: arrays in memory, or files that are mapped into it.

Of a mapped file only the pages are read that are asked for, and they are the page cache's, not the process's own: its
memory does not grow with the corpus. Legend: N tokens of a span, D documents.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from graft.training.errors import DataError

Ids = NDArray[np.unsignedinteger[Any]]
Ends = NDArray[np.int64]

_BLOCK_DOCUMENTS = 1 << 16
"""Whose ends are read at a time."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some documents of a stream."""

    name: str
    """For errors."""
    ids_N: Ids
    ends_D: Ends
    """Where each document is over, its end token included: ascending, the last one ``len(ids_N)``."""
    max_id: int | None = None
    """The largest id, where that is known: a larger one is damage."""

    def span(self, begin: int, end: int) -> tuple[Ids, Ends]:
        """Ids from ``begin`` to ``end``, and the ends of documents after ``begin`` and up to ``end``. Raises
        ``DataError`` for what the file cannot have held when it was written.
        """
        ids_N = self.ids_N[begin:end]
        first, behind = np.searchsorted(self.ends_D, np.array([begin, end], dtype=np.int64), side="right")
        ends = self.ends_D[first:behind]
        if len(ends) and not (begin < ends[0] and ends[-1] <= end and bool((ends[1:] > ends[:-1]).all())):
            raise self._damaged("the ends of its documents do not ascend")
        if self.max_id is not None and len(ids_N) and int(ids_N.max()) > self.max_id:
            raise self._damaged(f"it holds the id {int(ids_N.max())}, and its largest was {self.max_id}")
        return ids_N, ends

    def documents(self) -> Iterator[list[int]]:
        """Every document's tokens, without its end token."""
        begin = 0
        for block in range(0, len(self.ends_D), _BLOCK_DOCUMENTS):
            for end in self.ends_D[block : block + _BLOCK_DOCUMENTS].tolist():
                yield self.ids_N[begin : end - 1].tolist()
                begin = end

    def _damaged(self, reason: str) -> DataError:
        return DataError(
            f"{self.name} is damaged: {reason}. Make it again, or copy it again; `graft corpus check` compares all of "
            "its bytes."
        )


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a stream."""

    ids_N: NDArray[np.int64]
    ends_D: Ends
    """Of the documents that end in it, counted from its begin: ascending, from 1 to N."""


class TokenStream:
    """The tokens of all parts in one numbering, each document ended by its end token."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._begins = [0, *accumulate(len(part.ids_N) for part in parts)]
        self.num_tokens = self._begins[-1]
        self.num_documents = sum(len(part.ends_D) for part in parts)

    @classmethod
    def of(cls, documents: Iterable[Sequence[int]], end_id: int) -> Self:
        """In memory, four bytes a token."""
        ids, ends = array("I"), array("q")
        for document in documents:
            ids.extend(document)
            ids.append(end_id)
            ends.append(len(ids))
        ids_N, ends_D = np.frombuffer(ids, dtype=np.uint32), np.frombuffer(ends, dtype=np.int64)
        return cls([Part(name="the text", ids_N=ids_N, ends_D=ends_D)])

    def span(self, begin: int, end: int) -> Span:
        """Tokens from ``begin`` to ``end``, which are in the stream. Raises ``DataError`` for damage."""
        ids, ends = [], []
        at = begin
        part = bisect_right(self._begins, begin) - 1
        while at < end:
            first, behind = self._begins[part], min(end, self._begins[part + 1])
            own_ids, own_ends = self._parts[part].span(at - first, behind - first)
            ids.append(own_ids.astype(np.int64))
            ends.append(own_ends + (first - begin))
            at, part = behind, part + 1
        empty = np.empty(0, dtype=np.int64)
        return Span(ids_N=np.concatenate([empty, *ids]), ends_D=np.concatenate([empty, *ends]))

    def documents(self) -> Iterator[list[int]]:
        """Every document's tokens, without its end token."""
        return (document for part in self._parts for document in part.documents())
