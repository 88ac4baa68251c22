"""Texts as sentences of token ids, cut into rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from transformers import PreTrainedTokenizerBase

from graft.training.corpus.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.data import WHOLE, Share
from graft.training.errors import DataError
from graft.training.objective.objective import Batch, Sentences, flat

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)")
_HEADING = re.compile(r"^ = [^=].* = $")


def read_documents(path: Path) -> list[str]:
    """The documents of a text file: articles where WikiText's headings are (`` = Title = ``), else the whole file.

    Raises ``DataError`` where the file cannot be read, is not UTF-8, or holds no text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from None
    documents: list[list[str]] = [[]]
    for line in text.splitlines():
        if _HEADING.match(line):
            documents.append([])
        if line.strip():
            documents[-1].append(line.strip())
    found = ["\n".join(lines) for lines in documents if lines]
    if not found:
        raise DataError(f"{path} holds no text.")
    return found


def encode(documents: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Sentences]:
    """Each document's sentences as token ids, without special tokens."""
    encoded: list[Sentences] = []
    for document in documents:
        sentences = [part for line in document.split("\n") for part in _SENTENCE_END.split(line)]
        ids = tokenizer(sentences, add_special_tokens=False)["input_ids"]
        encoded.append([one for one in ids if one])
    return encoded


def windows(document: Sentences, room: int) -> Iterator[Sentences]:
    """The document in pieces of at most ``room`` tokens, cut between sentences where that is possible."""
    piece: list[Sequence[int]] = []
    size = 0
    for sentence in document:
        for start in range(0, len(sentence), room):
            part = sentence[start : start + room]
            if size + len(part) > room:
                yield piece
                piece, size = [], 0
            piece.append(part)
            size += len(part)
    if piece:
        yield piece


@dataclass(frozen=True, kw_only=True)
class _Epochs:
    """Row numbers in a new random order each epoch, a step's worth at a time. An epoch's last rows may be left over."""

    num_rows: int
    rows_per_step: int
    seed: int

    def __post_init__(self) -> None:
        if self.num_rows < self.rows_per_step:
            raise DataError(
                f"the text makes {self.num_rows} rows, and a step takes {self.rows_per_step}: give more text, or take "
                "fewer or shorter rows."
            )

    @property
    def steps(self) -> int:
        return self.num_rows // self.rows_per_step

    def rows(self, step: int) -> list[int]:
        epoch, position = divmod(step, self.steps)
        order = list(range(self.num_rows))
        Random(f"{self.seed}/{epoch}").shuffle(order)
        return order[position * self.rows_per_step : (position + 1) * self.rows_per_step]


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
    ) -> None:
        self._rows, self._collate = rows, collate
        self._rows_per_batch, self._seed = rows_per_batch, seed
        self._epochs = _Epochs(num_rows=len(rows), rows_per_step=rows_per_batch * batches_per_step, seed=seed)

    @property
    def steps_per_epoch(self) -> int:
        return self._epochs.steps

    def batches(self, step: int, share: Share = WHOLE) -> list[Batch]:
        chosen = self._epochs.rows(step)
        return [self._batch(step, at, chosen) for at in share.of(range(0, len(chosen), self._rows_per_batch))]

    def _batch(self, step: int, at: int, chosen: Sequence[int]) -> Batch:
        # Drawn for the micro-batch, so it is the same whichever process makes it.
        generator = torch.Generator().manual_seed(Random(f"{self._seed}/{step}/{at}").getrandbits(63))
        return self._collate([self._rows[row] for row in chosen[at : at + self._rows_per_batch]], generator)


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
    ) -> None:
        self._lines = _full_rows([[*flat(document), end_id] for document in documents], length)
        self._length, self._pad_id, self._rows_per_batch = length, pad_id, rows_per_batch
        self._epochs = _Epochs(num_rows=len(self._lines), rows_per_step=rows_per_batch * batches_per_step, seed=seed)

    @property
    def steps_per_epoch(self) -> int:
        return self._epochs.steps

    def batches(self, step: int, share: Share = WHOLE) -> list[PackedBatch]:
        chosen = self._epochs.rows(step)
        return [
            batch_of_rows(
                [self._lines[row] for row in chosen[at : at + self._rows_per_batch]],
                length=self._length,
                pad_id=self._pad_id,
            )
            for at in share.of(range(0, len(chosen), self._rows_per_batch))
        ]


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
