"""Work that blocks, beside the event loop: so much at once, of each tenant in its turn."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from graft.server.admission.policy import Admission
from graft.server.admission.waiting import AdmissionQueue
from graft.server.runtime.tenant import current_tenant

T = TypeVar("T")
IsUnwanted = Callable[[], bool]


class Places:
    """`num_at_once` run, `max_waiting` others wait. Threads live as long as this does."""

    def __init__(self, name: str, *, num_at_once: int, max_waiting: int) -> None:
        self._name = name
        self._queue = AdmissionQueue(Admission(max_running=num_at_once, max_queued=max_waiting))
        self._threads = ThreadPoolExecutor(num_at_once, thread_name_prefix=name)
        self._ending = Event()

    def close(self) -> None:
        """Nobody wants any more what runs; wait until it has ended."""
        self._ending.set()
        self._threads.shutdown(cancel_futures=True)

    async def run(self, work: Callable[[IsUnwanted], T]) -> T:
        """Work whose caller leaves does not begin any more; what has begun is told, and holds its place to its end.

        Raises `Overloaded` where no place is left, and what `work` does.
        """
        left, place = Event(), f"{self._name}-{secrets.token_hex(8)}"
        async with self._queue.admitted(place, tenant=current_tenant(), deadline=None):
            running = asyncio.get_running_loop().run_in_executor(
                self._threads, work, lambda: left.is_set() or self._ending.is_set()
            )
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                left.set()
                await asyncio.gather(running, return_exceptions=True)
                raise
