"""Output: tables, JSON, and colour where a terminal shows it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def paint(text: str, colour: str, *, stream: TextIO | None = None) -> str:
    """`text` in a colour, or as it is where `stream` (stdout) shows none."""
    return painted(text, _CODES[colour]) if shows_colours(stream or sys.stdout) else text


def painted(text: str, code: str) -> str:
    """By ECMA-48's number of a colour."""
    return f"\x1b[{code}m{text}\x1b[0m"


def is_terminal(stream: TextIO) -> bool:
    """Whether what was written can be written over."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def shows_colours(stream: TextIO) -> bool:
    """Not where it is no terminal or NO_COLOR is set (no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(header), *cells]) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *cells]]
    return "\n".join(line.rstrip() for line in lines)


def as_json(value: object) -> str:
    """`value` as JSON; messages by their field names, unset fields included."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Message):
        return MessageToDict(value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def size(num_bytes: int) -> str:
    """Bytes for reading: 1.5 MB."""
    value, units = float(num_bytes), ["B", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.{0 if units[0] == 'B' else 1}f} {units[0]}"


def short(digest: str) -> str:
    """A digest's first 12 hexadecimal digits."""
    return digest.removeprefix("sha256:")[:12]
