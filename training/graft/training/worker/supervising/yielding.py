"""Training gives way to serving on the same machine: it waits between two steps while users wait too long."""

from __future__ import annotations

import logging
import threading
import urllib.request
from collections.abc import Callable
from types import TracebackType
from typing import Self

from graft.training.worker.lease import unmoved

_log = logging.getLogger(__name__)
_NAME = "graft_time_to_first_token_seconds"
_LOOK_SECONDS, _CALM_SECONDS = 1.0, 5.0


class FirstTokens:
    """Whether users wait too long for first tokens, from a server's running sums. Pure.

    It begins with the first look whose mean is above the bound, and ends when none was for ``calm_seconds``: training
    that comes back at once would be in the way of the very requests that wait.
    """

    def __init__(self, bound_seconds: float, *, calm_seconds: float = _CALM_SECONDS) -> None:
        self.bound_seconds, self._calm_seconds = bound_seconds, calm_seconds
        self._before: tuple[float, float] | None = None
        self._high_at: float | None = None
        self.seconds = 0.0
        """The mean that was too much."""

    def look(self, total: float, count: float, *, now: float) -> bool:
        """``total`` seconds of ``count`` requests since the server began. Whether it is too much."""
        before, self._before = self._before, (total, count)
        if before is not None and count > before[1]:
            mean = (total - before[0]) / (count - before[1])
            if mean > self.bound_seconds:
                self._high_at, self.seconds = now, mean
        if self._high_at is not None and now - self._high_at >= self._calm_seconds:
            self._high_at = None
        return self._high_at is not None


class Yielding:
    """Looks at a server's Prometheus metrics as long as a `with` block lasts. What cannot be read holds nobody up."""

    def __init__(self, url: str, *, bound_seconds: float, read: Callable[[str], str] | None = None) -> None:
        self._url, self._read, self.tokens = url, read or _fetched, FirstTokens(bound_seconds)
        self.is_asked = False
        """The training is to wait."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="yielding", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Once, now."""
        try:
            total, count = first_tokens(self._read(self._url))
        except (OSError, ValueError) as error:
            _log.info("%s cannot be read: %s", self._url, error)
            self.is_asked = False
            return
        self.is_asked = self.tokens.look(total, count, now=unmoved())

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self.look()


def first_tokens(text: str) -> tuple[float, float]:
    """Seconds and requests, of Prometheus' text format. Raises ValueError."""
    found = {
        part: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        for part in ("sum", "count")
        if line.startswith(f"{_NAME}_{part} ")
    }
    if len(found) < 2:
        raise ValueError(f"there is no {_NAME}")
    return found["sum"], found["count"]


def _fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5.0) as answer:
        text: str = answer.read().decode()
        return text
