"""A word to the server that a job cannot do without: said until it is answered, or until it is in vain."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from graft.client import GraftClientError
from graft.training.worker.patience import (
    LockedOut,
    Patience,
    Refused,
    is_away,
    is_final,
    is_locked_out,
)
from graft.training.worker.supervising.keeper import Keeper
from graft.training.worker.supervising.reporting import LeaseGone, raise_lost
from graft.v1 import job_pb2 as pb

_log = logging.getLogger(__name__)
T = TypeVar("T")


class StopAsked(Exception):
    """The worker is to end, or the job to pause, while the server does not take something: the job is given back."""


class Saying:
    """Of one claim. ``warn`` tells the job's owner."""

    def __init__(self, keeper: Keeper, *, stop: threading.Event, warn: Callable[[str], None]) -> None:
        self._keeper, self._stop, self._warn = keeper, stop, warn

    def said(self, call: Callable[[], T], code: str, *, heeds_stop: bool = True) -> T:
        """What was answered. Raises ``Refused`` where saying it again is in vain, and what ``wait`` does."""
        patience = Patience(self._warn if heeds_stop else lambda message: None)
        while True:
            try:
                return call()
            except GraftClientError as error:
                raise_lost(error, self._keeper)
                if is_final(error):
                    raise Refused(code, error) from error
                self.wait(patience, error, heeds_stop=heeds_stop)

    def wait(self, patience: Patience, error: GraftClientError, *, heeds_stop: bool = True) -> None:
        """Until it is to be said again.

        Raises ``LeaseGone`` where the job is lost, or where the worker is to end and its lease is over anyway,
        ``StopAsked``, ``GivenUp`` and ``LockedOut``.
        """
        _log.info("the server does not take it now: %s", error)
        if is_locked_out(error):
            raise LockedOut(str(error)) from error
        seconds = patience.failed(error)
        self.check()
        if self._is_stopping and self._keeper.lease.is_over:
            raise LeaseGone
        if self._is_stopping and heeds_stop and not is_away(error):
            raise StopAsked
        seconds = min(seconds, self._keeper.lease.beat_seconds)
        # Whoever was asked to end waits all the same.
        time.sleep(seconds) if self._stop.is_set() else self._stop.wait(seconds)

    def check(self) -> None:
        """Raises ``LeaseGone`` and ``LockedOut``."""
        if self._keeper.is_lost:
            raise LeaseGone
        if self._keeper.refusal is not None:
            raise LockedOut(str(self._keeper.refusal))

    @property
    def _is_stopping(self) -> bool:
        return self._stop.is_set() or self._keeper.state == pb.JOB_STATE_PAUSING
