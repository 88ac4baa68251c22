"""Memory for the bodies of requests under way: one budget for all, since each alone may be large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from graft.server.errors import Overloaded

_RETRY_SECONDS = 1.0


class BodyBudget:
    """At most so many bytes of bodies at once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """One request's share, taken as its body comes and given back with the request. Taking raises `Overloaded`."""
        taken = 0

        def take(num_bytes: int) -> None:
            nonlocal taken
            if self.num_bytes + num_bytes > self._max_bytes:
                raise Overloaded(
                    f"the bodies of requests under way take {self.num_bytes} bytes and {self._max_bytes} is the limit: "
                    "try again later",
                    retry_after_seconds=_RETRY_SECONDS,
                )
            self.num_bytes += num_bytes
            taken += num_bytes

        try:
            yield take
        finally:
            self.num_bytes -= taken
