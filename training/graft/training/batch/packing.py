"""Filling rows of equal length with whole documents, so that no token is padding if it can be avoided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from graft.training.batch.documents import Documents

IGNORED = -100
"""Label of a token that the loss leaves out (PyTorch's and Hugging Face's convention)."""
LENGTH_STEP = 32
"""Rows are padded to a multiple of this. The CPU's matrix library keeps compiled code and buffers for every shape that
it has seen: with lengths as they come, 60 steps took 1.3 GB, with these 0.7 GB, and less time."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What of its document a token sees, of those before it and itself."""

    window: int | None = None
    """So many at most (Mistral: arXiv:2310.06825, §2)."""
    chunk: int | None = None
    """Those of its chunk, where documents are cut into chunks of so many tokens (Llama 4)."""

    @property
    def is_whole(self) -> bool:
        """Whether it goes back to the document's first token."""
        return self.window is None and self.chunk is None


WHOLE_DOCUMENT = Reach()


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Tokens of several documents side by side. Legend: B rows, L tokens per row."""

    input_ids_BL: Tensor
    labels_BL: Tensor
    """Already shifted: ``labels[:, i]`` is what position ``i`` predicts, or ``IGNORED``."""
    position_ids_BL: Tensor
    """Counts from 0 in every document."""
    document_BL: Tensor
    """Which document of its row a token belongs to; 0 is padding. Attention stays within one document."""
    place_L: Tensor | None = None
    """Where in the row these tokens are; None where all of the row is here. Then the keys are others', too:"""
    key_document_BK: Tensor | None = None
    key_place_K: Tensor | None = None

    @cached_property
    def num_labels(self) -> int:
        """Tokens that are asked for."""
        return int((self.labels_BL != IGNORED).sum())

    @cached_property
    def num_tokens(self) -> int:
        """All tokens but padding."""
        return int((self.document_BL != 0).sum())

    @cached_property
    def is_apart(self) -> bool:
        """Whether every row is here and holds one document at most, with padding behind it."""
        return self.place_L is None and bool((self.document_BL <= 1).all())

    @cached_property
    def documents(self) -> Documents:
        """What the attention of all rows at once goes by, in place of a mask."""
        if self.place_L is None or self.key_place_K is None:
            return Documents.of_rows(self.document_BL)
        return Documents.of_parts(self.document_BL, self.place_L, self.position_ids_BL, self.key_place_K)

    def attention_mask(self, reach: Reach = WHOLE_DOCUMENT) -> Tensor:
        """Causal and block-diagonal. Shape: (B, 1, L, K), true where the row's query may see the column's key."""
        ids = self.input_ids_BL
        at_L = torch.arange(ids.shape[1], device=ids.device) if self.place_L is None else self.place_L
        key_at_K = at_L if self.key_place_K is None else self.key_place_K
        key_document_BK = self.document_BL if self.key_document_BK is None else self.key_document_BK
        distance_LK = at_L[:, None] - key_at_K[None, :]
        seen_LK = (distance_LK >= 0) & (distance_LK < (reach.window or len(key_at_K)))
        seen_BLK = (self.document_BL[:, :, None] == key_document_BK[:, None, :]) & seen_LK
        if reach.chunk is not None:
            position_BL1 = self.position_ids_BL[:, :, None]
            key_position_BLK = position_BL1 - distance_LK  # where it counts: in the query's document
            seen_BLK &= position_BL1 // reach.chunk == key_position_BLK // reach.chunk
        return seen_BLK[:, None]

    def silent(self) -> PackedBatch:
        """The same, of which nothing is asked: it changes nothing."""
        return replace(self, labels_BL=torch.full_like(self.labels_BL, IGNORED))

    def to(self, device: str) -> PackedBatch:
        """The same on another device."""
        return self.each(lambda one: one.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> PackedBatch:
        """The same with tensors that ``change`` has copied. What is counted is counted here and goes with it: on a GPU
        each count would wait for all that the GPU has to do.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        made = PackedBatch(**{name: value if value is None else change(value) for name, value in values.items()})
        made.__dict__.update({name: getattr(self, name) for name in ("num_labels", "num_tokens", "is_apart")})
        made.__dict__["documents"] = self.documents.each(change)
        return made

    def part(self, places: Sequence[Tensor], index: int) -> PackedBatch:
        """Some tokens of every row, those at ``places[index]``; the keys are those of all places, in their order."""
        own_L, keys_K = places[index], torch.cat(tuple(places))
        return PackedBatch(
            input_ids_BL=self.input_ids_BL[:, own_L],
            labels_BL=self.labels_BL[:, own_L],
            position_ids_BL=self.position_ids_BL[:, own_L],
            document_BL=self.document_BL[:, own_L],
            place_L=own_L,
            key_document_BK=self.document_BL[:, keys_K],
            key_place_K=keys_K,
        )


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A tokenised document and which of its tokens are to be learned."""

    input_ids: Sequence[int]
    supervised: Sequence[bool]


EncodedT = TypeVar("EncodedT", bound=Encoded)


def pack(documents: Iterable[Encoded], *, num_rows: int, length: int, pad_id: int, max_misses: int = 8) -> PackedBatch:
    """As many rows of documents as were asked for (``first_fit``)."""
    rows = first_fit(documents, length=length, num_rows=num_rows, max_misses=max_misses)
    return batch_of_rows(rows + [[]] * (num_rows - len(rows)), length=length, pad_id=pad_id)


def first_fit(documents: Iterable[Encoded], *, length: int, num_rows: int, max_misses: int = 8) -> list[list[Encoded]]:
    """Puts each document into the first row with room, until ``max_misses`` documents found none.

    A document is never cut; one longer than ``length`` counts as a miss.
    """
    rows: list[list[Encoded]] = []
    room: list[int] = []
    misses = 0
    for document in documents:
        size = len(document.input_ids)
        fitting = next((row for row, left in enumerate(room) if left >= size), None)
        if fitting is not None:
            rows[fitting].append(document)
            room[fitting] -= size
        elif size <= length and len(rows) != num_rows:
            rows.append([document])
            room.append(length - size)
        else:
            misses += 1
            if misses == max_misses:
                break
    return rows


def best_fit(sizes: Sequence[int], *, length: int) -> list[list[int]]:
    """Numbers of documents of these sizes, in as few rows as best-fit decreasing finds: the largest first, each into
    the row with the least room that holds it (Ding et al. 2024, arXiv:2404.10830, §3). None may be longer than a row.
    """
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms = 0  # a bit for each size of room that some row has
    for number in sorted(range(len(sizes)), key=lambda one: -sizes[one]):
        size = sizes[number]
        if fitting := rooms >> size:
            room = size + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            row, room = len(rows), length
            rows.append([])
        rows[row].append(number)
        if left := room - size:
            by_room.setdefault(left, []).append(row)
            rooms |= 1 << left
    return rows


def padded(length: int) -> int:
    """Up to the next multiple of ``LENGTH_STEP``."""
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def lines_of(documents: Sequence[EncodedT], *, packing: bool) -> tuple[list[list[EncodedT]], int]:
    """A batch's lines, and how long they are: one for each document, or as few as ``best_fit`` makes of the longest's
    length.
    """
    sizes = [len(one.input_ids) for one in documents]
    length = padded(max(sizes))
    if not packing:
        return [[one] for one in documents], length
    return [[documents[number] for number in line] for line in best_fit(sizes, length=length)], length


def batch_of_rows(rows: Sequence[Sequence[Encoded]], *, length: int, pad_id: int) -> PackedBatch:
    """Lays the documents of each row one after another; the last token of a document predicts nothing."""
    shape = (len(rows), length)
    input_ids_BL = torch.full(shape, pad_id)
    labels_BL = torch.full(shape, IGNORED)
    position_ids_BL = torch.zeros(shape, dtype=torch.long)
    document_BL = torch.zeros(shape, dtype=torch.long)
    for row, documents in enumerate(rows):
        start = 0
        for number, document in enumerate(documents, start=1):
            ids, supervised = torch.tensor(document.input_ids), torch.tensor(document.supervised)
            end = start + len(ids)
            input_ids_BL[row, start:end] = ids
            labels_BL[row, start : end - 1] = torch.where(supervised[1:], ids[1:], IGNORED)
            position_ids_BL[row, start:end] = torch.arange(len(ids))
            document_BL[row, start:end] = number
            start = end
    return PackedBatch(
        input_ids_BL=input_ids_BL, labels_BL=labels_BL, position_ids_BL=position_ids_BL, document_BL=document_BL
    )
