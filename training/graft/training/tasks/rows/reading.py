"""Rows of a task's file: JSON, Parquet and Arrow, as everywhere, or tab-separated text."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from graft.adapters.text.file import read_lines
from graft.adapters.text.problems import BadLine, check_characters, parsed
from graft.adapters.text.rows import kind_of
from graft.training.batch.rows.reading import read_values
from graft.training.batch.rows.table import TABLES
from graft.training.errors import DataError, of_data

TABS = ".tsv"
BESIDE = frozenset(("id", "idx", "title"))
"""What rows may have that says nothing of what is learned."""
_HEADINGS = frozenset(
    ("text", "label", "labels", "sentence", "sentence1", "premise", "question", "question1", "source")
)
_NUMBER = re.compile(r"[+-]?\d+")
_FRACTION = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?")

Row = Mapping[str, Any]
T = TypeVar("T")


def read_rows(path: Path, parse: Callable[[Row], T]) -> list[tuple[int, T]]:
    """What ``parse`` makes of each row, with the number of the line that it begins on.

    A ``.tsv`` file begins with a line of names, as GLUE's do, or has ``text<TAB>label`` in every line. ``parse`` raises
    ``BadLine``. Raises ``DataError``, which names the file and every bad row's line.
    """
    found = of_data(_tabbed, path, parse) if kind_of(path) == TABS else _json(path, parse)
    if not found:
        raise DataError(f"{path} has no rows; write one JSON object per line, or text<TAB>label in a .tsv file.")
    return found


def unit_of(path: Path) -> str:
    """What a file's rows are numbered by."""
    return "row" if kind_of(path) in TABLES else "line"


def text_of(row: Row, name: str, *, may_be_empty: bool = False) -> str:
    """A text that a row must have. Raises ``BadLine``."""
    value = row.get(name)
    if not isinstance(value, str):
        raise BadLine(f"{name} is missing." if value is None else f"{name} must be a string, not {shown(value)}.")
    check_characters(value)
    if not may_be_empty and not value.strip():
        raise BadLine(f"{name} is empty; write a text, or leave the row out.")
    return value


def texts_of(row: Row, name: str) -> tuple[str, ...]:
    """A list of texts that a row must have. Raises ``BadLine``."""
    value = row.get(name)
    if not isinstance(value, list) or not value:
        raise BadLine(f"{name} is missing." if value is None else f"{name} must be a list of strings.")
    return tuple(text_of({name: one}, name) for one in value)


def check_names(row: Row, known: Collection[str]) -> None:
    """Raises ``BadLine`` for what a row has beside them."""
    if unknown := sorted(row.keys() - set(known) - BESIDE):
        raise BadLine(f"{', '.join(map(repr, unknown))} is nothing that this task reads; leave it out.")


def shown(value: object) -> str:
    """A value as an error may show it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _json(path: Path, parse: Callable[[Row], T]) -> list[tuple[int, T]]:
    def checked(value: Any) -> T:
        if not isinstance(value, dict):
            raise BadLine(f"a row must be a JSON object, not {shown(value)}.")
        return parse({name: one for name, one in value.items() if one is not None})

    return read_values(path, checked)


def _tabbed(path: Path, parse: Callable[[Row], T]) -> list[tuple[int, T]]:
    lines = [(number, line) for number, line in read_lines(path) if line.strip()]
    names = lines[0][1].split("\t") if lines else []
    has_names = len(names) > 1 and not _HEADINGS.isdisjoint(names)

    def row(line: str) -> T:
        if has_names:
            values = line.split("\t")
            if len(values) != len(names):
                raise BadLine(f"{len(values)} fields, and the first line names {len(names)}; is a tab missing?")
            return parse({name: _typed(name, value) for name, value in zip(names, values, strict=True)})
        text, tab, label = line.rpartition("\t")
        if not tab:
            raise BadLine(f"{shown(line)} is not text<TAB>label.")
        return parse({"text": text, "label": _typed("label", label)})

    return parsed(path, lines[1:] if has_names else lines, row)


def _typed(name: str, value: str) -> Any:
    """A label is a number where it is written as one."""
    value = value.strip()
    if name != "label":
        return value
    if _NUMBER.fullmatch(value):
        return int(value)
    return float(value) if _FRACTION.fullmatch(value) else value
