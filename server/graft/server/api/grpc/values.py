"""Values of protobuf's own messages, read with care: any of them may hold what is no number, or no time."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from graft.server.runtime.violations import Violations, shown

MAX_SECONDS = 100 * 365 * 86_400.0
"""Of an estimate: what is later has no date."""


def read_struct(message: Struct, field: str, violations: Violations) -> dict[str, Any]:
    """As JSON's values; whole numbers are whole again, as a Struct has only floating ones. What is wrong is added."""
    return {name: _value(one, f"{field}.{name[:40]}", violations) for name, one in message.fields.items()}


def read_seconds(message: Duration, field: str, violations: Violations, *, high: float = MAX_SECONDS) -> float:
    """From 0 to `high`. What is wrong is added, and 0 returned."""
    seconds = message.seconds + message.nanos / 1e9
    if 0 <= seconds <= high:
        return seconds
    violations.add(field, f"is {seconds:g} s; allowed are 0 to {high:g} s")
    return 0.0


def check_finite(value: float, field: str, violations: Violations) -> None:
    """JSON has no other numbers."""
    if not math.isfinite(value):
        violations.add(field, f"is {shown(value)}; a number is finite")


def _value(message: Value, field: str, violations: Violations) -> Any:
    match message.WhichOneof("kind"):
        case "number_value":
            number = message.number_value
            check_finite(number, field, violations)
            return int(number) if number.is_integer() else number
        case "struct_value":
            return read_struct(message.struct_value, field, violations)
        case "list_value":
            return _values(message.list_value, field, violations)
        case "string_value":
            return message.string_value
        case "bool_value":
            return message.bool_value
    return None


def _values(message: ListValue, field: str, violations: Violations) -> list[Any]:
    return [_value(one, f"{field}[{index}]", violations) for index, one in enumerate(message.values)]
