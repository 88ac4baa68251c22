"""JSON read without surprises: a size limit, no duplicate keys, no NaN, and no crash on deep nesting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from graft.adapters.errors import Reason


def parse_json_object(data: bytes, *, field: str) -> tuple[Mapping[str, object], list[Reason]]:
    """The JSON object in `data`, or an empty one and the reason why it cannot be read."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return {}, [Reason(field=field, problem=f"is not valid JSON ({error})", remedy="write the file again")]
    if not isinstance(value, dict):
        return {}, [Reason(field=field, problem=f"holds a JSON {type(value).__name__} where an object is needed")]
    return value, []


def read_json_object(path: Path, *, max_bytes: int) -> tuple[Mapping[str, object], list[Reason]]:
    """The JSON object in the file at `path`, or an empty one and the reason why it cannot be read."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            return {}, [Reason(field=path.name, problem="is no regular file", remedy="give the file itself")]
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        return {}, [Reason(field=path.name, problem=f"cannot be read ({error.strerror})")]
    if len(data) > max_bytes:
        return {}, [Reason(field=path.name, problem=f"is larger than {max_bytes} bytes")]
    return parse_json_object(data, field=path.name)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"duplicate key {key[:200]!r}")
        result[key] = value
    return result


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not a JSON number")
