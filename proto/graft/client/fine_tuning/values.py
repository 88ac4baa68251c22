"""The values of a Struct: what is told in messages where any JSON may stand."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct


def values_of(message: Struct) -> dict[str, Any]:
    """Whole numbers are whole again, at every depth: a Struct has only floating ones. Raises ValueError for a number
    that JSON does not have.
    """
    found: dict[str, Any] = _whole(MessageToDict(message))
    return found


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
