"""The value of a setting from what a file, the environment or a flag says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from graft.adapters.form import ServingForm
from graft.server.settings.settings import LIMITS, InvalidSetting, Settings


def parse(name: str, value: object, *, source: str) -> Any:
    """The value of setting `name` as its type. Raises `InvalidSetting`; `source` says where the value was set."""
    try:
        return _PARSERS[_TYPES[name]](value)
    except ValueError as error:
        low, high = LIMITS.get(name, (None, None))
        limits = "" if low is None else f" between {low:.15g} and {high:.15g}"
        raise InvalidSetting(f"{name} = {value!r} ({source}): {error}{limits}") from None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text that is not empty")
    return value


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a whole number")
    try:
        return int(value)
    except ValueError:
        raise ValueError("must be a whole number") from None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number")
    try:
        return float(value)
    except ValueError:
        raise ValueError("must be a number") from None


def _boolean(value: object) -> bool:
    words = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("must be true or false")


def _folders(value: object) -> tuple[Path, ...]:
    parts = value.split(":") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("must be a list of folders")
    return tuple(Path(_text(part)).expanduser().absolute() for part in parts)


def _form(value: object) -> ServingForm:
    try:
        return ServingForm(_text(value).lower())
    except ValueError:
        raise ValueError(f"must be one of {', '.join(ServingForm)}") from None


_PARSERS: dict[str, Callable[[object], Any]] = {
    "str": _text,
    "str | None": _text,
    "int": _integer,
    "int | None": _integer,
    "float": _number,
    "bool": _boolean,
    "Path": lambda value: Path(_text(value)),
    "Path | None": lambda value: Path(_text(value)),
    "tuple[Path, ...]": _folders,
    "ServingForm | None": _form,
    "LogFormat": _text,
    "LoraKernel": _text,
    "ParityMode": _text,
}
_TYPES = {one.name: str(one.type) for one in fields(Settings)}
