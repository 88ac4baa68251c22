"""Admission in asyncio: requests wait here for their turn, and a drain waits here for the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from graft.server.admission import Admission, Refuse, Wait
from graft.server.errors import DeadlineExceeded, Draining, Overloaded


class Gate:
    """The one place where requests enter. `observed(num_running, num_queued)` is called after each change."""

    def __init__(
        self,
        admission: Admission,
        *,
        observed: Callable[[int, int], None] = lambda num_running, num_queued: None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._admission = admission
        self._observed = observed
        self._now = now
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def num_admitted(self) -> int:
        return self._admission.num_running + self._admission.num_queued

    @asynccontextmanager
    async def admitted(self, request_id: str, *, tenant: str, deadline: float | None) -> AsyncIterator[None]:
        """Hold a running place. `deadline` is a time of the gate's clock.

        Raises `Draining`, `Overloaded`, or `DeadlineExceeded` where the turn did not come in time.
        """
        if self._closed:
            raise Draining("the server is shutting down: send the request to another replica")
        self._advance()
        decision = self._admission.offer(request_id, tenant=tenant, deadline=deadline, now=self._now())
        if isinstance(decision, Refuse):
            raise Overloaded(
                "all running and waiting places are taken: try again later",
                retry_after_seconds=decision.retry_after_seconds,
            )
        try:
            self._changed()
            if isinstance(decision, Wait):
                await self._turn(request_id, deadline)
            yield
        finally:
            self._turns.pop(request_id, None)
            self._admission.leave(request_id, now=self._now())
            self._advance()

    def close(self) -> None:
        """Refuse all new work; the admitted goes on."""
        self._closed = True

    async def drained(self, timeout_seconds: float) -> int:
        """Wait until no admitted request is left; returns how many still are at the time limit."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            return self.num_admitted
        return 0

    async def _turn(self, request_id: str, deadline: float | None) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns[request_id] = turn
        try:
            async with asyncio.timeout(None if deadline is None else deadline - self._now()):
                await turn
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the request waited for its turn") from None

    def _advance(self) -> None:
        advance = self._admission.advance(now=self._now())
        for request_id in advance.started:
            self._settle(request_id, None)
        for request_id in advance.expired:
            self._settle(request_id, DeadlineExceeded("the deadline passed while the request waited for its turn"))
        self._changed()

    def _settle(self, request_id: str, error: DeadlineExceeded | None) -> None:
        turn = self._turns.pop(request_id, None)
        if turn is None or turn.done():
            return
        if error is None:
            turn.set_result(None)
        else:
            turn.set_exception(error)

    def _changed(self) -> None:
        if self.num_admitted:
            self._idle.clear()
        else:
            self._idle.set()
        self._observed(self._admission.num_running, self._admission.num_queued)
