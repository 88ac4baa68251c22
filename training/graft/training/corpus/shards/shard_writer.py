"""One piece of text made into a shard, in memory that does not grow with it."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from transformers import PreTrainedTokenizerBase

from graft.adapters.text.spelling import Spelling
from graft.training.corpus.lines import Sketching
from graft.training.corpus.shards.files import ShardFileWriter
from graft.training.corpus.shards.header import DTYPES, ENDS, LINES, TOKENS, WORD, Shard
from graft.training.corpus.shards.pieces import Piece, Reading
from graft.training.runtime.disk import replace_text

_BATCH_CHARACTERS, _BATCH_DOCUMENTS = 1 << 20, 1 << 10
"""Of what is spelled at a time, unless one document is longer."""


class Tally(Protocol):
    """What the makers of shards tell each other."""

    def add(self, num_bytes: int) -> None:
        """So many bytes of text are done."""

    @property
    def is_spoilt(self) -> bool:
        """Whether a file is bad: then the rest is looked through for other bad lines, and not made into tokens."""

    def spoil(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Written:
    """A shard, and what was read for it."""

    shard: Shard
    """Without documents where the piece has none, or a bad line."""
    readings: Sequence[Reading]


def dtype_of(tokenizer: PreTrainedTokenizerBase, end_id: int) -> str:
    """The narrowest that holds every id."""
    highest = max(end_id, *tokenizer.get_vocab().values())
    return next(name for name, one in DTYPES.items() if highest <= np.iinfo(one).max)


class Speller:
    """Texts as token ids, each ended."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end_id: int) -> None:
        self._spelling, self._end_id = Spelling(tokenizer), end_id
        self.dtype = dtype_of(tokenizer, end_id)

    def batch(self, texts: Sequence[str]) -> tuple[array[int], list[int]]:
        """The ids of all, and how many are each one's. Raises ``Unspellable``."""
        ids, sizes = array("I"), []
        for one in self._spelling.texts(texts):
            ids.extend(one)
            ids.append(self._end_id)
            sizes.append(len(one) + 1)
        return ids, sizes


def written_shard(stem: Path, piece: Piece, key: Mapping[str, Any], speller: Speller, tally: Tally) -> Written:
    """Writes the shard ``stem`` and, where nothing was wrong, its record, last."""
    readings = [Reading(slice=one) for one in piece]
    with _Files(stem, DTYPES[speller.dtype]) as files:
        for texts in _batches(readings, tally):
            if not tally.is_spoilt:
                files.append(texts, *speller.batch(texts))
        if not all(reading.is_good for reading in readings):
            tally.spoil()
        if tally.is_spoilt:
            return Written(shard=_EMPTY, readings=readings)
        shard = files.shard()
    record = {
        "key": dict(key),
        "shard": asdict(shard),
        "read": [[one.num_documents, one.num_lines] for one in readings],
    }
    replace_text(stem.with_suffix(".json"), json.dumps(record))
    return Written(shard=shard, readings=readings)


def recorded(stem: Path, piece: Piece, key: Mapping[str, Any]) -> Written | None:
    """The shard that an earlier try finished; None where it did not, or made another."""
    try:
        values = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        if values["key"] != key:
            return None
        counts = zip(piece, values["read"], strict=True)
        readings = [Reading(slice=one, num_documents=docs, num_lines=lines) for one, (docs, lines) in counts]
        return Written(shard=Shard.of(values["shard"]), readings=readings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


_EMPTY = Shard(name="", num_tokens=0, num_documents=0, max_id=0, line_bound=0, files={})


class _Files:
    """The files of a shard in the making."""

    def __init__(self, stem: Path, dtype: np.dtype[Any]) -> None:
        self._name, self._max_id = stem.name, 0
        self._num_tokens = self._num_documents = 0
        self._sketching = Sketching()
        self._stack = contextlib.ExitStack()
        dtypes = {TOKENS: dtype, ENDS: WORD, LINES: WORD}
        self._files = {
            kind: self._stack.enter_context(ShardFileWriter(stem.with_suffix(f".{kind}"), one))
            for kind, one in dtypes.items()
        }

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def append(self, texts: Sequence[str], ids: array[int], sizes: Sequence[int]) -> None:
        numbers = np.frombuffer(ids, dtype=np.uint32)
        self._max_id = max(self._max_id, int(numbers.max()))
        self._files[TOKENS].append(numbers)
        self._files[ENDS].append(self._num_tokens + np.cumsum(sizes, dtype=np.uint64))
        self._num_tokens += len(numbers)
        self._num_documents += len(sizes)
        for text in texts:
            self._sketching.add(text)

    def shard(self) -> Shard:
        """Once all is on the disk."""
        sketch = self._sketching.sketch()
        self._files[LINES].append(sketch.hashes)
        return Shard(
            name=self._name,
            num_tokens=self._num_tokens,
            num_documents=self._num_documents,
            max_id=self._max_id,
            line_bound=sketch.bound,
            files={kind: file.record() for kind, file in self._files.items()},
        )


def _batches(readings: Sequence[Reading], tally: Tally) -> Iterator[list[str]]:
    """The documents of all, some at a time."""
    texts: list[str] = []
    size = 0
    for reading in readings:
        told = 0
        for text in reading.documents():
            texts.append(text)
            size += len(text)
            if size >= _BATCH_CHARACTERS or len(texts) == _BATCH_DOCUMENTS:
                yield texts
                step = min(size, reading.slice.num_bytes - told)  # characters are not bytes
                tally.add(step)
                texts, size, told = [], 0, told + step
        tally.add(reading.slice.num_bytes - told)
    if texts:
        yield texts
