"""A part of a terminal that is drawn again and again in place."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO

from graft.cli.plots.chart import Style
from graft.cli.terminal import shows_colours

_NEEDED = "⣿┤●"


def style_of(stream: TextIO) -> Style:
    """What `stream` shows."""
    try:
        _NEEDED.encode(stream.encoding or "ascii")
        has_unicode = True
    except (UnicodeEncodeError, LookupError):
        has_unicode = False
    return Style(colours=shows_colours(stream), unicode=has_unicode)


class Screen:
    """Shows lines in place of those that it showed before; a context manager."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._num_lines = 0
        self._size = self.size

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows now."""
        columns, rows = shutil.get_terminal_size()
        return columns, rows

    def __enter__(self) -> Self:
        self._stream.write("\x1b[?25l")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.write("\x1b[?25h")
        self._stream.flush()

    def show(self, lines: Sequence[str]) -> None:
        """Lines no wider than the terminal, and fewer than it has rows."""
        if self.size != self._size:  # the lines that were there may have been broken
            self._stream.write("\x1b[2J\x1b[H")
            self._num_lines, self._size = 0, self.size
        back = f"\x1b[{self._num_lines}A\r" if self._num_lines else ""
        self._stream.write(back + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._num_lines = len(lines)
