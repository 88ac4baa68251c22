"""Admission in asyncio: requests wait here for their turn and slot, and a drain waits here for the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from graft.server.admission.policy import Admission, Refuse
from graft.server.admission.slot_choice import AllUsable
from graft.server.errors import DeadlineExceeded, Draining, Overloaded
from graft.server.residency.slots import Slots


class AdmissionQueue:
    """The one place where requests enter. `observed(num_running, num_queued)` is called after each change.

    Requests start only on versions that sit in `slots`, which load them for those who wait; without, all are usable.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        slots: Slots | None = None,
        observed: Callable[[int, int], None] = lambda num_running, num_queued: None,
    ) -> None:
        self._admission = admission
        self._observed = observed
        self._slots = slots
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        if slots is not None:
            slots.listen(changed=self._advance, failed=self._fail)

    @property
    def num_admitted(self) -> int:
        return self._admission.num_running + self._admission.num_queued

    @asynccontextmanager
    async def admitted(
        self, request_id: str, *, tenant: str, deadline: float | None, adapter: str = "", digest: str | None = None
    ) -> AsyncIterator[None]:
        """Hold a running place and a lease on the version `digest`. `deadline` is a time of the monotonic clock.

        Raises `Draining`, `Overloaded`, `DeadlineExceeded` where the turn did not come in time, and what loading the
        version raises.
        """
        if self._closed:
            raise Draining("the server is shutting down: send the request to another replica")
        self._advance()
        decision = self._admission.offer(request_id, tenant=tenant, adapter=adapter, digest=digest, deadline=deadline)
        if isinstance(decision, Refuse):
            raise _overloaded(decision.retry_after_seconds)
        if decision.displaced is not None:
            self._settle(decision.displaced, _overloaded(self._admission.retry_after_seconds))
        turn = self._turns[request_id] = asyncio.get_running_loop().create_future()
        try:
            self._advance()
            await self._wait(turn, deadline)
            yield
        finally:
            self._turns.pop(request_id, None)
            ran = self._admission.leave(request_id, now=monotonic())
            if ran and digest is not None and self._slots is not None:
                self._slots.free(digest)
            self._advance()

    def charge(self, request_id: str, *, prompt_tokens: int = 0, generated_tokens: int = 0) -> None:
        """An admitted request was served so many tokens, as they come."""
        self._admission.charge(request_id, prompt_tokens=prompt_tokens, generated_tokens=generated_tokens)

    def close(self) -> None:
        """Refuse all new work; the admitted goes on."""
        self._closed = True

    def end(self, error: Exception) -> None:
        """Whoever still waits for a turn is given `error` in its place."""
        for request_id in list(self._turns):
            self._settle(request_id, error)

    async def drained(self, timeout_seconds: float) -> int:
        """Wait until no admitted request is left; returns how many still are at the time limit."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            return self.num_admitted
        return 0

    async def _wait(self, turn: asyncio.Future[None], deadline: float | None) -> None:
        if turn.done():
            return turn.result()
        limit = asyncio.timeout(None if deadline is None else deadline - monotonic())
        try:
            async with limit:
                await turn
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded("the deadline passed while the request waited for its turn") from None

    def _advance(self) -> None:
        advance = self._admission.advance(now=monotonic(), slots=self._slots or AllUsable())
        for request_id in advance.started:
            self._settle(request_id, None)
        for request_id in advance.expired:
            self._settle(request_id, DeadlineExceeded("the deadline passed while the request waited for its turn"))
        self._changed()

    def _fail(self, digest: str, error: Exception) -> None:
        for request_id in self._admission.drop(digest):
            self._settle(request_id, error)

    def _settle(self, request_id: str, error: Exception | None) -> None:
        turn = self._turns.pop(request_id, None)
        if turn is None or turn.done():
            return
        if error is None:
            turn.set_result(None)
        else:
            turn.set_exception(error)
            turn.exception()  # the caller may have gone

    def _changed(self) -> None:
        if self.num_admitted:
            self._idle.clear()
        else:
            self._idle.set()
        self._observed(self._admission.num_running, self._admission.num_queued)


def _overloaded(retry_after_seconds: float) -> Overloaded:
    return Overloaded(
        "all running and waiting places are taken: try again later", retry_after_seconds=retry_after_seconds
    )
