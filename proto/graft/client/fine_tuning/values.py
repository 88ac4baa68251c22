"""The values of a Struct: what is told in messages where any JSON may stand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct


def values_of(message: Struct) -> dict[str, Any]:
    """Whole numbers are whole again, at every depth: a Struct has only floating ones. Raises ValueError for a number
    that JSON does not have.
    """
    found: dict[str, Any] = whole(MessageToDict(message))
    return found


def whole(value: Any) -> Any:
    """A JSON value whose whole numbers are integers."""
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def struct_of(values: Mapping[str, Any]) -> Struct:
    """Raises ValueError for what is no JSON: a number that is not finite or too large, a text that is not UTF-8."""
    message = Struct()
    try:
        _check_finite(values)
        message.update(dict(values))
    except OverflowError:
        raise ValueError("a number is too large: the largest is 1.7e308") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    message.SetInParent()
    return message


def _check_finite(value: object) -> None:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            _check_finite(one)
    elif isinstance(value, int | float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number that JSON has")
