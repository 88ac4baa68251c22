"""Regular expressions that users bring, in RE2: matching takes time linear in the text, whatever the pattern."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Protocol

import re2

MAX_CHARACTERS = 2000
MAX_BYTES = 256 << 10
"""Memory of one compiled pattern, which large repetitions of large classes exceed: it bounds compiling to 3 ms."""
MAX_SEARCHED = 4096
"""Characters. One match is found in linear time; all of them may take the square of it (`.*b|a` in a row of `a`)."""


class Match(Protocol):
    """As in `re`."""

    def group(self, number: int = 0, /) -> str | None: ...
    def start(self, group: int = 0, /) -> int: ...
    def end(self, group: int = 0, /) -> int: ...


class Pattern:
    """A compiled pattern."""

    def __init__(self, pattern: str) -> None:
        """Raises `ValueError`, saying what to change."""
        if len(pattern) > MAX_CHARACTERS:
            raise ValueError(f"has {len(pattern)} characters; at most {MAX_CHARACTERS} are taken: shorten it")
        options = re2.Options()
        options.log_errors = False
        options.max_mem = MAX_BYTES
        try:
            self._compiled = re2.compile(pattern, options)
        except re2.error as error:
            (reason,) = error.args
            said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise ValueError(f"is no regular expression in RE2's syntax: {said}") from None
        self.num_groups: int = self._compiled.groups

    def last(self, text: str) -> Match | None:
        """The last match in the last `MAX_SEARCHED` characters; positions count from where these begin."""
        found: deque[Match] = deque(self._compiled.finditer(text[-MAX_SEARCHED:]), maxlen=1)
        return found[0] if found else None

    def is_whole(self, text: str) -> bool:
        """Whether all of the text matches."""
        return self._compiled.fullmatch(text) is not None


@lru_cache(maxsize=64)
def compiled(pattern: str) -> Pattern:
    """The pattern, compiled once. Raises `ValueError`, saying what to change."""
    return Pattern(pattern)
