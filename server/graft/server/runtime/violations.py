"""What is wrong with a request, field by field, and values as they are shown to those who sent them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from graft.server.errors import BadInput, Violation

T = TypeVar("T")

# A caller mends so many at a time; a body may hold a million.
MAX_VIOLATIONS = 32
_MAX_SHOWN = 40


class Violations:
    """Collects what is wrong with a request, so that the caller learns of many at once; more are not sought."""

    def __init__(self) -> None:
        self._found: list[Violation] = []
        self._is_full = False

    def add(self, field: str, problem: str) -> None:
        self._is_full = len(self._found) == MAX_VIOLATIONS
        if not self._is_full:
            self._found.append(Violation(field=field, problem=problem))

    @property
    def num_found(self) -> int:
        """How many are held."""
        return len(self._found)

    def until_full(self, parts: Iterable[T]) -> Iterator[T]:
        """The parts of a request to be judged one by one, as long as there is room for what is wrong with them."""
        return itertools.takewhile(lambda part: not self._is_full, parts)

    def raise_any(self) -> None:
        """Raises `BadInput` where something was added."""
        if self._is_full:
            self._found[-1] = Violation(field=self._found[-1].field, problem="and more of the kind")
        if self._found:
            raise BadInput(*self._found)


def shown(value: object) -> str:
    """A request's value as an error names it: short, in one line, quoted where it is text."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value) if isinstance(value, str | bool | None) else str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
