"""Values of a row of preferences, checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from graft.adapters.text import rows
from graft.adapters.text.problems import BadLine
from graft.training.batch.rows import kind_of
from graft.training.errors import of_data

T = TypeVar("T")
BESIDE = frozenset({"tools", "chat_template_kwargs", "parallel_tool_calls"})
"""Keys of a row beside its messages."""


def read_values(path: Path, parse: Callable[[Any], T]) -> list[tuple[int, T]]:
    """What ``parse`` makes of each row, with the number of its line. Raises ``DataError`` with all bad ones."""
    return of_data(rows.read_rows, path, parse)


def list_of(value: Any, what: str) -> list[Any]:
    """A list that holds something. Raises ``BadLine``."""
    if not isinstance(value, list) or not value:
        raise BadLine(f"{what} must be a list that is not empty, not {kind_of(value)}.")
    return value


def object_of(value: Any, what: str) -> dict[str, Any]:
    """An object without the keys that say null, which is absence. Raises ``BadLine``."""
    if not isinstance(value, dict):
        raise BadLine(f"{what} must be an object, not {kind_of(value)}.")
    return {key: one for key, one in value.items() if one is not None}
