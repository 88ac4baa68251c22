"""Places beside the loop: tenants in their turn, and nobody works for those who have left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Event

import pytest

from graft.server.errors import Overloaded
from graft.server.grading.places import IsUnwanted, Places
from graft.server.runtime.tenant import on_behalf_of


@pytest.fixture
def places() -> Iterator[Places]:
    made = Places("test", num_at_once=1, max_waiting=3)
    yield made
    made.close()


class Slow:
    """Work that lasts until it is let go, or unwanted."""

    def __init__(self) -> None:
        self.goes_on = Event()
        self.began: list[str] = []
        self.left: list[str] = []

    async def ask(self, places: Places, tenant: str, name: str) -> str:
        def work(is_unwanted: IsUnwanted) -> str:
            self.began.append(name)
            while not self.goes_on.wait(0.001):
                if is_unwanted():
                    self.left.append(name)
                    break
            return name

        with on_behalf_of(tenant):
            return await places.run(work)

    async def begun(self, places: Places, tenant: str, name: str) -> asyncio.Task[str]:
        task = asyncio.create_task(self.ask(places, tenant, name))
        while name not in self.began:
            await asyncio.sleep(0)
        return task


async def test_a_flood_of_one_tenant_is_not_before_the_other(places: Places) -> None:
    slow = Slow()
    first = await slow.begun(places, "flood", "f0")
    others = [asyncio.create_task(slow.ask(places, "flood", f"f{n}")) for n in (1, 2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await slow.ask(places, "flood", "f4")
    other = asyncio.create_task(slow.ask(places, "acme", "a0"))
    await asyncio.sleep(0)
    slow.goes_on.set()
    assert await other == "a0"
    assert (await asyncio.gather(first, *others, return_exceptions=True))[:3] == ["f0", "f1", "f2"]
    assert slow.began.index("a0") == 1


async def test_who_leaves_is_worked_for_no_longer(places: Places) -> None:
    slow = Slow()
    first = await slow.begun(places, "acme", "running")
    waiting = asyncio.create_task(slow.ask(places, "acme", "waiting"))
    await asyncio.sleep(0)
    waiting.cancel()
    first.cancel()
    for task in (waiting, first):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert slow.left == ["running"]
    slow.goes_on.set()
    assert await slow.ask(places, "acme", "next") == "next"
    assert slow.began == ["running", "next"]


async def test_an_end_ends_what_runs() -> None:
    places, slow = Places("test", num_at_once=1, max_waiting=0), Slow()
    first = await slow.begun(places, "acme", "running")
    await asyncio.to_thread(places.close)
    assert await first == "running" and slow.left == ["running"]
