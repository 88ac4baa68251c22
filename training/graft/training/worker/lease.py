"""How long a worker may go on without a word from the server: by its own monotonic clock, which nobody moves. Pure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LEASE = "GRAFT_WORKER_LEASE_SECONDS"
"""A child's, in its environment; beside it the worker's beats come by its standard input."""
HOLD = "hold"
"""While a file of this name lies in a job's folder, the training waits between two steps."""
_SAVING_SHARE = 2 / 3
"""Of the lease: what is left of it then is for saving."""
_BEATS = 6
"""Words in a lease, at least."""


def unmoved() -> float:
    """Seconds by a clock that nobody moves and that goes on while the machine sleeps, where there is such a one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """Counts from when a word was *sent* that was answered later: the server saw it then or after."""

    def __init__(self, seconds: float, *, sent: float, now: Callable[[], float] = unmoved) -> None:
        """``sent`` is when the claim was."""
        self.seconds, self._now, self._sent = seconds, now, sent
        self._lock = threading.Lock()

    @property
    def beat_seconds(self) -> float:
        """Between two words."""
        return self.seconds / _BEATS

    def answered(self, sent: float) -> None:
        """A word that was sent then was answered."""
        with self._lock:
            self._sent = max(self._sent, sent)

    @property
    def silence(self) -> float:
        """Seconds since the last word that was answered was sent."""
        with self._lock:
            return self._now() - self._sent

    @property
    def is_ending(self) -> bool:
        """The training must be stopped: there is time to save."""
        return self.silence >= self.seconds * _SAVING_SHARE

    @property
    def is_over(self) -> bool:
        """Nothing of the job may run any more."""
        return self.silence >= self.seconds
