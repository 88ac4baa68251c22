"""Rows of JSON: one a line in ``.jsonl`` and ``.ndjson``; in ``.json`` the elements of a list, or one value after the
other, each from a line of its own. Read as RFC 8259 has it: no NaN, and no key twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from graft.adapters.text.file import decoded, raw_lines, read_text
from graft.adapters.text.json_values import check_size, parse_value, values_in
from graft.adapters.text.problems import BadLine, UnreadableText, sorted_out, unreadable

LINES, DOCUMENT = (".jsonl", ".ndjson"), ".json"

T = TypeVar("T")


def kind_of(path: Path) -> str:
    """The suffix that says what is inside, in lower case: ``.jsonl`` of ``rows.JSONL.gz``."""
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return name.suffix.lower()


def read_rows(path: Path, parse: Callable[[Any], T]) -> list[tuple[int, T]]:
    """The rows, each with the number of the line that it begins on; blank lines are passed over.

    ``parse`` makes of a JSON value what is wanted, and raises ``BadLine`` for one that cannot be used.

    Raises:
        UnreadableText: another kind of file, or one that cannot be read; names every bad row by file and line.
    """
    found, problems = sort_rows(path, parse)
    if problems:
        raise unreadable(path, problems)
    return found


def sort_rows(
    path: Path, parse: Callable[[Any], T], *, others: Sequence[str] = ()
) -> tuple[list[tuple[int, T]], list[tuple[int, str]]]:
    """The same for the rows that can be used, and what is wrong with each of the others.

    ``others`` are kinds that the caller reads by itself, for the error's words. Raises ``UnreadableText`` for another
    kind of file, or one that cannot be read.
    """
    kind = kind_of(path)
    if kind == DOCUMENT:
        return sorted_out(values_in(read_text(path)), lambda value: parse(_sound(value)))
    if kind not in LINES:
        *known, last = (*LINES, DOCUMENT, *others)
        use = f"use {', '.join(known)} or {last}"
        raise UnreadableText(f"{path}: {kind or 'no suffix'!r} is no known kind of rows; {use}.")
    lines = ((number, line) for number, line in raw_lines(path) if line.strip(b" \t\r"))
    return sorted_out(lines, lambda line: parse(value_of(line)))


def value_of(line: bytes) -> Any:
    """The one JSON value of a line. Raises ``BadLine``."""
    check_size(len(line))
    return parse_value(decoded(line))


def _sound(value: Any) -> Any:
    if isinstance(value, BadLine):
        raise value
    return value
