"""Which values a setting may have, and what is said of any other."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graft.training.errors import ConfigurationError

_UNITS = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Which values a setting may have, and how an error says so. None is not asked about."""

    holds: Callable[[Any], bool]
    text: str


def at_least(least: int) -> Limit:
    return Limit(holds=lambda value: value >= least, text=f"at least {least}")


def between(least: int, most: int) -> Limit:
    return Limit(holds=lambda value: least <= value <= most, text=f"from {least} to {most}")


def one_of(*allowed: object) -> Limit:
    return Limit(holds=lambda value: value in allowed, text=" or ".join(map(repr, allowed)))


NOT_NEGATIVE = Limit(holds=lambda value: value >= 0, text="0 or more")
POSITIVE = Limit(holds=lambda value: 0 < value < math.inf, text="above 0 and finite")
EPOCHS = Limit(holds=lambda value: 0 < value <= 1e6, text="above 0 and at most a million")
MAX_ROWS, MAX_LENGTH, MAX_WIDTH = 1 << 16, 1 << 24, 1 << 27
"""Of a forward pass, tokens of a row, a model's width: beyond every device, and sizes made of them can be told."""
SHARE = Limit(holds=lambda value: 0 <= value <= 1, text="from 0 to 1")
BELOW_1 = Limit(holds=lambda value: 0 <= value < 1, text="from 0 to below 1")


def number(name: str, text: str) -> float:
    """A positive number, as in ``250k``, ``2M``, ``1e21``. Raises ``ConfigurationError``."""
    try:
        value = float(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ConfigurationError(
            f"{name} has the value {text!r}; it must be a number above 0, such as 250k, 2M or 1e21."
        )
    return value


def count_of(what: str) -> Callable[[str], int]:
    """The type of a flag that says how many: 1 or more."""

    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {what}: give 1 or more")
        return int(text)

    return count


def require(holds: bool, name: str, value: object, limit: str) -> None:
    if not holds:
        raise ConfigurationError(f"setting {name!r} has the value {value!r}; it must be {limit}.")
