"""A memory of what was found out about texts that callers send."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_MAX_CHARACTERS = 256


def remembered(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """`functools.lru_cache` for functions of texts; of long ones, which would fill the memory, nothing is kept."""

    def around(function: Callable[P, T]) -> Callable[P, T]:
        kept = functools.lru_cache(maxsize)(function)

        @functools.wraps(function)
        def call(*texts: P.args, **named: P.kwargs) -> T:
            is_short = sum(len(str(text)) for text in texts) <= _MAX_CHARACTERS
            return kept(*texts, **named) if is_short else function(*texts, **named)  # type: ignore[arg-type]

        return call

    return around
