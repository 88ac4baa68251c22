"""What is given for a setting, as text or from a file, as a value of the setting's type."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from graft.training.errors import ConfigurationError

_NAMES = re.compile(r"[\w.,\s-]*")
"""What lists of names are written with; a regular expression has more."""
_RANGE = re.compile(r"(\d+)-(\d+)")
_MOST = 1 << 16
"""Of numbers in a range."""


def typed(name: str, value: Any, kind: str) -> Any:
    """Checks a value against its field's annotation; numbers written as text (YAML's ``2e-4``) count as numbers.

    Raises ``ConfigurationError``.
    """
    if value is None and kind.endswith("None"):
        return None
    try:
        if kind.startswith("tuple[int"):
            return tuple(_numbers(value.split(",") if isinstance(value, str) else value))
        if kind.startswith("tuple"):
            return _names(value, may_be_pattern="| str" in kind)
        if kind.startswith("Mapping"):
            return {key: _number(one, kind.removeprefix("Mapping[str, ")) for key, one in _pairs(value)}
        if ("bool" in kind and isinstance(value, bool)) or (kind.startswith("str") and isinstance(value, str)):
            return value
        return _number(value, kind)
    except (TypeError, ValueError):
        raise ConfigurationError(f"setting {name!r} has the value {value!r}; it must be of type {kind}.") from None


def _names(value: Any, *, may_be_pattern: bool) -> tuple[str, ...] | str | None:
    """None for ``all-linear``, which is what is meant without it."""
    if may_be_pattern and isinstance(value, str) and not _NAMES.fullmatch(value):
        return value
    names = value.split(",") if isinstance(value, str) else value
    if not (isinstance(names, list | tuple) and names and all(isinstance(each, str) and each for each in names)):
        raise ValueError(value)
    return None if list(names) == ["all-linear"] else tuple(names)


def _numbers(values: Any) -> Iterator[int]:
    """``3``, and ``3-5`` for all of them."""
    if not isinstance(values, list | tuple) or not values:
        raise TypeError(values)
    for one in values:
        found = _RANGE.fullmatch(one.strip()) if isinstance(one, str) else None
        if found is None:
            yield _number(one, "int")
        elif not 0 <= int(found[2]) - int(found[1]) < _MOST:
            raise ValueError(one)
        else:
            yield from range(int(found[1]), int(found[2]) + 1)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Of a mapping, or of text: ``q_proj=8,v_proj=4``."""
    if isinstance(value, str):
        for part in value.split(","):
            key, equals, one = part.rpartition("=")
            if not (equals and key.strip()):
                raise ValueError(value)
            yield key.strip(), one
    elif isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        yield from value.items()
    else:
        raise TypeError(value)


def _number(value: Any, kind: str) -> Any:
    if not kind.startswith(("int", "float")) or isinstance(value, bool):
        raise TypeError(value)
    number = float(value)
    if kind.startswith("float") and number == number:
        return number
    if kind.startswith("int") and number.is_integer():
        return int(number)
    raise ValueError(value)
