"""Files of text, cut into pieces that are read by themselves: each makes one shard.

How they are cut is a function of the files alone, so that the shards are the same however many processes make them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.adapters.text.documents import read_documents, text_of
from graft.adapters.text.line_range import LineRange
from graft.adapters.text.problems import UnreadableText, unreadable
from graft.adapters.text.rows import LINES, kind_of
from graft.training.errors import DataError

PIECE_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file of text, as it was when it was looked at."""

    path: Path
    num_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Source:
        """Raises ``DataError`` where there is no such file."""
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
        return cls(path=path, num_bytes=found.st_size, mtime_ns=found.st_mtime_ns)

    @property
    def is_cut(self) -> bool:
        """JSON lines that are not compressed are read a line at a time from anywhere; other files whole."""
        return kind_of(self.path) in LINES and self.path.suffix.lower() != ".gz"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Bytes of a source: all of it, or the lines that begin there."""

    source: Source
    begin: int = 0
    end: int | None = None

    @property
    def num_bytes(self) -> int:
        return (self.source.num_bytes if self.end is None else self.end) - self.begin

    @property
    def key(self) -> list[Any]:
        """What a shard that was made of it depends on."""
        source = self.source
        return [str(source.path.absolute()), source.num_bytes, source.mtime_ns, self.begin, self.end]


Piece = tuple[Slice, ...]


def pieces(sources: Sequence[Source], piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """Pieces of about so many bytes: large files in several, small ones together."""
    found: list[Piece] = []
    together: list[Slice] = []
    for one in (part for source in sources for part in _slices(source, piece_bytes)):
        if together and sum(part.num_bytes for part in together) + one.num_bytes > piece_bytes:
            found.append(tuple(together))
            together = []
        together.append(one)
    return [*found, tuple(together)] if together else found


def _slices(source: Source, piece_bytes: int) -> Iterator[Slice]:
    if not source.is_cut or source.num_bytes <= piece_bytes:
        yield Slice(source=source)
        return
    begins = range(0, source.num_bytes, piece_bytes)
    for begin in begins:
        yield Slice(source=source, begin=begin, end=min(begin + piece_bytes, source.num_bytes))


@dataclass(kw_only=True)
class Reading:
    """The documents of a slice, and what was wrong with it: of a great many bad lines the first ones and their number.
    It can be pickled.
    """

    slice: Slice
    num_documents: int = 0
    num_lines: int = 0
    num_bad: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    refusal: str | None = None
    """Why all of the file cannot be read."""

    @property
    def is_good(self) -> bool:
        return not self.num_bad and self.refusal is None

    def documents(self) -> Iterator[str]:
        """Those that are not blank."""
        try:
            for text in self._all():
                if text.strip():
                    self.num_documents += 1
                    yield text
        except UnreadableText as error:
            self.refusal = str(error)

    def _all(self) -> Iterator[str]:
        source = self.slice.source
        if kind_of(source.path) not in LINES:
            yield from read_documents(source.path)
            return
        lines = LineRange(path=source.path, begin=self.slice.begin, end=self.slice.end)
        try:
            yield from lines.values(text_of)
        finally:
            self.num_lines, self.num_bad, self.problems = lines.num_lines, lines.num_bad, lines.problems


def problems_of(readings: Iterable[Reading]) -> list[str]:
    """What is wrong with each file, in the words of ``read_documents``; readings come in their order in the files."""
    by_source: dict[Path, list[Reading]] = {}
    for reading in {str(one.slice.key): one for one in readings}.values():  # a file may be named twice
        by_source.setdefault(reading.slice.source.path, []).append(reading)
    return [told for path, own in by_source.items() if (told := _problem(path, own)) is not None]


def _problem(path: Path, readings: Sequence[Reading]) -> str | None:
    refusal = next((one.refusal for one in readings if one.refusal is not None), None)
    if refusal is not None:
        return refusal
    problems: list[tuple[int, str]] = []
    num_before = 0
    for one in readings:
        problems += [(num_before + number, problem) for number, problem in one.problems]
        num_before += one.num_lines
    if problems:
        return str(unreadable(path, problems, sum(one.num_bad for one in readings)))
    if not any(one.num_documents for one in readings):
        return f"{path} holds no text."
    return None
