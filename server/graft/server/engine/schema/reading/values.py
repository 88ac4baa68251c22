"""JSON values as JSON Schema compares them: 1 equals 1.0, true does not equal 1, the order of names does not count."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any


def plain(value: Any) -> Any:
    """The value with integers where a float says one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


def compact(value: Any) -> str:
    """The value's JSON without blanks; one text for each value but for the order of names."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def key_of(value: Any) -> str:
    """One text for all values that are the same."""
    return json.dumps(plain(value), sort_keys=True)


def same(a: Any, b: Any) -> bool:
    return key_of(a) == key_of(b)


def exact(number: float) -> Fraction:
    """The number as its digits say it: 0.1 is a tenth."""
    return Fraction(Decimal(repr(number)))


def type_of(value: Any) -> str:
    """The value's JSON type, `number` for integers too."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
