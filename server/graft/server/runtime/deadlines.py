"""Waiting with a deadline, and streams that are closed for certain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from graft.server.errors import DeadlineExceeded

T = TypeVar("T")


class Ending:
    """A moment that comes for all who wait, before their deadlines."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._limits: set[asyncio.Timeout] = set()

    def come(self, error: Exception) -> None:
        """Whoever waits, now or later, is given `error`."""
        self.error = error
        for limit in self._limits:
            limit.reschedule(0.0)

    @contextmanager
    def moves(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Within, `limit`, which was entered, is over when the moment comes."""
        if self.error is not None:
            limit.reschedule(0.0)
        self._limits.add(limit)
        try:
            yield
        finally:
            self._limits.discard(limit)


async def in_time(awaitable: Awaitable[T], deadline: float | None, ending: Ending | None = None) -> T:
    """Await until `deadline` (event loop time), then cancel and raise `DeadlineExceeded`, or the error of `ending`.

    What the awaitable makes of its cancellation, an answer or an error of its own, does not count: it came too late.
    """
    limit, ending = asyncio.timeout_at(deadline), ending or Ending()
    try:
        async with limit:
            with ending.moves(limit):
                result = await awaitable
    except Exception:
        if not limit.expired():
            raise
    else:
        if not limit.expired():
            return result
    raise ending.error or DeadlineExceeded("the request's deadline passed before its answer was complete")


@asynccontextmanager
async def closing(stream: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close the stream on the way out: a generator that is merely forgotten goes on until it is collected."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


async def each_in_time(
    stream: AsyncIterator[T], deadline: float | None, ending: Ending | None = None
) -> AsyncGenerator[T, None]:
    """The stream's items, each awaited as `in_time` does; closes the stream in every case."""
    async with closing(stream):
        while True:
            try:
                item = await in_time(anext(stream), deadline, ending)
            except StopAsyncIteration:
                return
            yield item


async def all_or_none(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once; the first failure cancels the others and is raised as it is (not as a group)."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
