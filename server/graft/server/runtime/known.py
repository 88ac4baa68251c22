"""Values that were written by another version of this program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def known(kind: type[Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the dataclass `kind` has: a newer server on the same database may write more (fault F17)."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in row.items() if name in names}
