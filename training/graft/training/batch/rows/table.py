"""Rows of columns: Parquet files, and Arrow's (the file format, which is also Feather's, and the stream).

A column of a table has a value in every row: where it says null, at the top or in a message, nothing was said.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft.adapters.text.problems import UnreadableText

TABLES = (".parquet", ".arrow", ".feather", ".ipc")
_ROWS_AT_ONCE = 1024


def columns_of(path: Path) -> list[str]:
    """Names of a table's columns. Raises ``UnreadableText``."""
    return [str(name) for name in _opened(path)[0]]


def rows_of(path: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row's values that are not null, numbered from 1. Raises ``UnreadableText``."""
    number = 0
    _, batches = _opened(path, columns)
    try:
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield number, _said({name: row[name] for name in columns})
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise UnreadableText(f"{path} is damaged behind row {number}: {_first_line(error)}; make it again.") from None


def _opened(path: Path, columns: list[str] | None = None) -> tuple[list[str], Iterator[Any]]:
    """The names of all columns, and batches with the values of some."""
    import pyarrow
    from pyarrow import ipc, parquet

    if not path.is_file():
        raise UnreadableText(f"{path} cannot be read: it is no file.")
    try:
        if path.suffix.lower() == ".parquet":
            file = parquet.ParquetFile(path)
            return file.schema_arrow.names, file.iter_batches(_ROWS_AT_ONCE, columns=columns)
        source = pyarrow.memory_map(str(path))
        if source.read(6) == b"ARROW1":
            whole = ipc.open_file(source)
            return whole.schema.names, map(whole.get_batch, range(whole.num_record_batches))
        source.seek(0)
        stream = ipc.open_stream(source)  # as the library datasets writes them
        return stream.schema.names, iter(stream)
    except (OSError, ValueError) as error:
        raise UnreadableText(f"{path} is no {path.suffix[1:]} file that can be read: {_first_line(error)}.") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0][:200].rstrip(".")


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _said(one) for key, one in value.items() if one is not None}
    return [_said(one) for one in value] if isinstance(value, list) else value
