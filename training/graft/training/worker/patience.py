"""Whether what a server does not take is said again, and for how long."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from graft.client import GraftClientError
from graft.client.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from graft.training.worker.lease import unmoved

SECONDS, TOLD_SECONDS, NUM_DEADLINES = 600.0, 60.0, 3
"""Until the worker gives up; until it tells the job's owner; transfers that did not end in their time."""
_SHORTEST, _LONGEST = 1.0, 15.0
_LONG_SECONDS = 60.0
"""What ends earlier was no transfer: its clock was moved."""
_FULL = "QUOTA_EXCEEDED"


class Refused(Exception):
    """The server takes something for good reasons not."""

    def __init__(self, code: str, error: GraftClientError) -> None:
        super().__init__(str(error))
        self.code = code


class GivenUp(Exception):
    """A server that is there did not take something for so long, or so often, that the job is better given back."""


class LockedOut(Exception):
    """The server does not let this worker work any more."""


def is_final(error: GraftClientError) -> bool:
    """Whether saying it again is in vain: it is the job's own fault, or its tenant's room is used up."""
    is_own = isinstance(error, InvalidArgument | NotFound | Unimplemented | PermissionDenied)
    return is_own or error.code is grpc.StatusCode.FAILED_PRECONDITION or error.reason == _FULL


def is_locked_out(error: GraftClientError) -> bool:
    """Whether the server does not know the worker any more: its token was changed."""
    return isinstance(error, Unauthenticated)


def is_away(error: GraftClientError) -> bool:
    """Whether nobody answered: then nobody can be told that a job is given back, and its lease decides."""
    return isinstance(error, Unavailable) and error.reason is None


class Patience:
    """With one word to the server."""

    def __init__(
        self, tell: Callable[[str], None] = lambda message: None, *, now: Callable[[], float] = unmoved
    ) -> None:
        """``tell`` is a warning for the job's owner."""
        self._tell, self._now = tell, now
        self._begin: float | None = None
        self._asked_at = now()
        self._num_deadlines, self._is_told, self._wait = 0, False, _SHORTEST

    def failed(self, error: GraftClientError) -> float:
        """Seconds until it is to be said again. Raises ``GivenUp``."""
        if is_away(error):
            self._asked_at = self._now()
            self._begin = None  # the time without a server is not the server's refusing
            return _SHORTEST
        self._begin = self._now() if self._begin is None else self._begin
        passed = self._now() - self._begin
        self._num_deadlines += isinstance(error, DeadlineExceeded) and self._now() - self._asked_at >= _LONG_SECONDS
        self._asked_at = self._now()
        if passed >= SECONDS or self._num_deadlines >= NUM_DEADLINES:
            raise GivenUp(str(error)) from error
        if passed >= TOLD_SECONDS and not self._is_told:
            self._is_told = True
            self._tell(f"The server does not take what the job made, and is asked again: {error}")
        wait, self._wait = self._wait, min(_LONGEST, 2 * self._wait)
        return wait
