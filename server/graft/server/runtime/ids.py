"""Names of things that their callers do not name: unlike all others, and in the order of the clock that made them."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable
from time import time_ns

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_NUM_DIGITS = 26
_RANDOM_BITS = 80
_ULID = re.compile(f"[0-7][{_DIGITS}]{{{_NUM_DIGITS - 1}}}\\Z")


class Ids:
    """ULIDs (github.com/ulid/spec, in lower case) behind a prefix; safe for threads.

    An id is greater than those that the same process made before it, also where the clock went back meanwhile or stood
    still. Between processes, one after another or beside each other, the order is that of their clocks: one that is set
    back by an hour makes ids that stand among those of that hour. A list in the order of ids goes on behind an id whose
    thing is gone, and names no thing twice; one that is made during the reading may be missed, as in any order.
    """

    def __init__(
        self,
        prefix: str,
        *,
        now_milliseconds: Callable[[], int] = lambda: time_ns() // 1_000_000,
        entropy: Callable[[int], int] = secrets.randbits,
    ) -> None:
        """`entropy` gives so many random bits as a number."""
        self._prefix, self._now, self._entropy = prefix, now_milliseconds, entropy
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """The next one."""
        with self._lock:
            fresh = (self._now() << _RANDOM_BITS) | self._entropy(_RANDOM_BITS)
            self._last = max(fresh, self._last + 1)
            return self._prefix + _written(self._last)

    def made(self, text: str) -> bool:
        """Whether it has the form of these ids."""
        return text.startswith(self._prefix) and bool(_ULID.match(text.removeprefix(self._prefix)))


def _written(number: int) -> str:
    digits = []
    for _ in range(_NUM_DIGITS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
