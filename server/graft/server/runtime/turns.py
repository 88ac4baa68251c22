"""Who uses the one process, or thread, next: tenants in turn, and within a tenant whoever came first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from graft.server.errors import Overloaded

T = TypeVar("T")
Waiters = deque[asyncio.Future[None]]


class Turns:
    """A lock that no tenant can keep from the others, however many of its requests wait. They wait for `what`."""

    def __init__(self, what: str, *, max_waiting: int) -> None:
        self._what = what
        self._max_waiting = max_waiting
        self._is_taken = False
        # Whose turn is next stands first; a tenant whose turn came goes to the end.
        self._waiting: OrderedDict[str | None, Waiters] = OrderedDict()

    @asynccontextmanager
    async def turn(self, tenant: str | None) -> AsyncIterator[None]:
        """Within, nobody else has it. Raises `Overloaded` where `max_waiting` of the tenant's requests wait."""
        await self.take(tenant)
        try:
            yield
        finally:
            self.pass_on()

    async def in_thread(self, tenant: str | None, work: Callable[[], T]) -> T:
        """What `work` makes in a thread."""
        return await self.given(tenant, lambda: asyncio.to_thread(work))

    async def given(self, tenant: str | None, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` makes. The turn lasts until it has ended, also where its caller leaves."""
        await self.take(tenant)
        working = asyncio.ensure_future(work())
        working.add_done_callback(self._ended)
        return await asyncio.shield(working)

    def _ended(self, working: asyncio.Future[Any]) -> None:
        self.pass_on()
        if not working.cancelled():
            working.exception()  # seen, even where nobody waits any more

    async def take(self, tenant: str | None) -> None:
        """Wait for the turn; whoever has it has to pass it on. Raises `Overloaded`."""
        if not self._is_taken:
            self._is_taken = True
            return
        waiters = self._waiting.setdefault(tenant, deque())
        if len(waiters) >= self._max_waiting:
            problem = f"{len(waiters)} requests wait for {self._what}: try again"
            raise Overloaded(problem, retry_after_seconds=1.0)
        waiter = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.pass_on()  # its turn had come
            raise

    def pass_on(self) -> None:
        """To whoever is next."""
        while self._waiting:
            tenant, waiters = self._waiting.popitem(last=False)
            waiter = waiters.popleft()
            if waiters:
                self._waiting[tenant] = waiters
            if not waiter.done():
                waiter.set_result(None)
                return
        self._is_taken = False
