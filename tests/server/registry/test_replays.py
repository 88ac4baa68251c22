"""A request id is one call's: done once, answered each time, tried again where it failed."""

from __future__ import annotations

import asyncio

import pytest

from graft.adapters.errors import Conflict
from graft.server.registry import replays
from graft.server.registry.replays import Replays


class Work:
    """Counts how often it is done, and fails or waits where the test wants it."""

    def __init__(self) -> None:
        self.num_done = 0
        self.error: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self) -> int:
        await self.go_on.wait()
        if self.error:
            raise self.error
        self.num_done += 1
        return self.num_done


async def test_the_same_call_is_done_once_even_at_once() -> None:
    kept, work = Replays(), Work()
    work.go_on.clear()
    calls = [asyncio.ensure_future(kept.once("a", "pin", work, tenant="ann")) for _ in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    work.go_on.set()
    assert await asyncio.gather(*calls[1:]) == [1, 1] and await kept.once("a", "pin", work, tenant="ann") == 1
    assert (
        await kept.once(None, "pin", work, tenant="ann") == 2 and await kept.once("b", "pin", work, tenant="ann") == 3
    )


async def test_another_call_by_the_same_id_is_refused() -> None:
    kept, work = Replays(), Work()
    await kept.once("a", "pin", work, tenant="ann")
    with pytest.raises(Conflict, match="request_id a was used for another call"):
        await kept.once("a", "unpin", work, tenant="ann")
    assert work.num_done == 1


async def test_another_tenants_same_id_is_another_call() -> None:
    kept, work = Replays(), Work()
    assert await kept.once("a", "pin", work, tenant="ann") == 1
    assert await kept.once("a", "unpin", work, tenant="joe") == 2


async def test_what_failed_is_tried_again() -> None:
    kept, work = Replays(), Work()
    work.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        await kept.once("a", "pin", work, tenant="ann")
    work.error = None
    assert await kept.once("a", "pin", work, tenant="ann") == 1


async def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "_MAX_KEPT", 2)
    kept, work = Replays(), Work()
    for name in ("a", "b", "c"):
        await kept.once(name, "pin", work, tenant="ann")
    assert await kept.once("c", "pin", work, tenant="ann") == 3 and await kept.once("a", "pin", work, tenant="ann") == 4
