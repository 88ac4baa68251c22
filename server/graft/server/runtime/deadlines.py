"""Waiting with a deadline, and streams that are closed for certain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from graft.server.errors import DeadlineExceeded

T = TypeVar("T")


async def in_time(awaitable: Awaitable[T], deadline: float | None) -> T:
    """Await until `deadline` (event loop time), then cancel and raise `DeadlineExceeded`.

    What the awaitable makes of its cancellation, an answer or an error of its own, does not count: it came too late.
    """
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            result = await awaitable
    except Exception:
        if not limit.expired():
            raise
    else:
        if not limit.expired():
            return result
    raise DeadlineExceeded("the request's deadline passed before its answer was complete")


@asynccontextmanager
async def closing(stream: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close the stream on the way out: a generator that is merely forgotten goes on until it is collected."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


async def each_in_time(stream: AsyncIterator[T], deadline: float | None) -> AsyncGenerator[T, None]:
    """The stream's items, each awaited until `deadline`; closes the stream in every case."""
    async with closing(stream):
        while True:
            try:
                item = await in_time(anext(stream), deadline)
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
