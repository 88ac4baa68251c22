"""Files of rows: JSON lines, JSON arrays, Parquet and Arrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from graft.adapters.text.problems import BadLine, sorted_out, unreadable
from graft.adapters.text.rows import kind_of, sort_rows
from graft.training.batch.rows.formats import keys_of, row_of
from graft.training.batch.rows.row import Row
from graft.training.batch.rows.table import TABLES, columns_of, rows_of
from graft.training.errors import DataError, of_data

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FileRows(Generic[T]):
    """What was made of a file's rows, each with its number: that of the line it begins on, or in a table its own."""

    path: Path
    found: list[tuple[int, T]]
    refused: list[tuple[int, str]]
    """What is wrong with the others, and what to do."""
    unread: tuple[str, ...] = field(default=())
    """Columns of a table that no row is read from."""

    @property
    def unit(self) -> str:
        """What is numbered."""
        return "row" if kind_of(self.path) in TABLES else "line"

    def usable(self) -> list[tuple[int, T]]:
        """Raises ``DataError``, which names up to ten bad rows, the line, what is wrong and what to do."""
        if self.refused:
            raise DataError(str(unreadable(self.path, self.refused, unit=self.unit)))
        if not self.found:
            raise DataError(
                f"{self.path} has no rows; write one JSON object per line, such as messages or prompt and completion."
            )
        return self.found


def read_rows(path: Path, encode: Callable[[Row], T], *, columns: Mapping[str, str] | None = None) -> FileRows[T]:
    """What ``encode`` makes of each row; it raises ``BadLine`` for one that it cannot use.

    ``columns`` are other names for keys of a row: of each row only those are read. Raises ``DataError`` for a file that
    is none, or of another kind.
    """
    return of_data(_read, path, lambda value: encode(row_of(_renamed(value, columns))), columns)


def read_values(path: Path, parse: Callable[[Any], T]) -> list[tuple[int, T]]:
    """What ``parse`` makes of each row's JSON value, for rows of other kinds. Raises ``DataError`` as above, and with
    all rows for which it raised ``BadLine``.
    """
    return of_data(_read, path, parse, None, every_column=True).usable()


def _read(
    path: Path, parse: Callable[[Any], T], columns: Mapping[str, str] | None, *, every_column: bool = False
) -> FileRows[T]:
    if kind_of(path) not in TABLES:
        found, refused = sort_rows(path, parse, others=TABLES)
        return FileRows(path=path, found=found, refused=refused)
    there = columns_of(path)
    wanted = set(there) if every_column else set(columns.values()) if columns else keys_of(set(there))
    read = [name for name in there if name in wanted]
    found, refused = sorted_out(rows_of(path, read), parse)
    return FileRows(path=path, found=found, refused=refused, unread=tuple(name for name in there if name not in wanted))


def _renamed(value: Any, columns: Mapping[str, str] | None) -> Any:
    if not columns or not isinstance(value, dict):
        return value
    if missing := [name for name in columns.values() if name not in value]:
        raise BadLine(
            f"it has no {missing[0]!r}, which columns names; it has {', '.join(map(str, value)) or 'nothing'}."
        )
    return {key: value[name] for key, name in columns.items()}
