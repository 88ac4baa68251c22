"""JSON lines of a part of a file, one at a time: for files larger than memory, or read by several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from graft.adapters.text.file import opened
from graft.adapters.text.json_values import MAX_ROW_BYTES, check_size
from graft.adapters.text.problems import MAX_NUMBERED, MAX_REPORTED, BadLine
from graft.adapters.text.rows import value_of

T = TypeVar("T")

_LIMIT = MAX_ROW_BYTES + 2
"""Of a row with its end."""


@dataclass(kw_only=True)
class LineRange:
    """The lines that begin in some of a file's bytes. Ranges that cover a file together have each line once."""

    path: Path
    begin: int = 0
    end: int | None = None
    """None: to the file's end. A compressed file is read whole."""
    num_lines: int = 0
    """Read so far."""
    num_bad: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    """Of the first bad lines: the number, from 1 at the range's first line, and what is wrong."""

    def values(self, parse: Callable[[Any], T]) -> Iterator[T]:
        """What ``parse`` makes of each line's JSON value, blank lines passed over; bad ones are kept in ``problems``.

        Raises ``UnreadableText`` where the file cannot be read.
        """
        with opened(self.path) as file:
            for line, num_bytes in self._lines(file):
                self.num_lines += 1
                if not line.strip(b" \t\r"):
                    continue
                try:
                    check_size(num_bytes)
                    value = parse(value_of(line))
                except BadLine as problem:
                    self._keep(str(problem))
                    continue
                yield value

    def _lines(self, file: BinaryIO) -> Iterator[tuple[bytes, int]]:
        """Each line, or the first bytes of one that is too long, and how many it has."""
        at = self.begin
        if self.begin:
            file.seek(self.begin - 1)
            at += _line(file)[1] - 1
        while self.end is None or at < self.end:
            line, num_bytes = _line(file)
            if not num_bytes:
                return
            at += num_bytes
            is_ended = line.endswith(b"\n")
            yield line.removesuffix(b"\n"), num_bytes - is_ended

    def _keep(self, problem: str) -> None:
        self.num_bad += 1
        if len(self.problems) < MAX_REPORTED + MAX_NUMBERED:
            self.problems.append((self.num_lines, problem))


def _line(file: BinaryIO) -> tuple[bytes, int]:
    """The next line and the number of its bytes, both with its end; of one that is too long no more than that shows."""
    line = last = file.readline(_LIMIT)
    num_bytes = len(line)
    while len(last) == _LIMIT and not last.endswith(b"\n"):
        last = file.readline(_LIMIT)
        num_bytes += len(last)
    return (line if num_bytes <= _LIMIT else line + last[-1:]), num_bytes
