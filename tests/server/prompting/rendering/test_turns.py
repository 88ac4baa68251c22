"""One process, shared by tenants: nobody's crowd keeps another from it."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from graft.server.errors import BadInput, Overloaded
from graft.server.prompting.rendering.process import TemplateProcess
from graft.server.prompting.rendering.templates import Job
from graft.server.runtime.tenant import on_behalf_of
from graft.server.runtime.turns import Turns

LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


async def served(turns: Turns, tenant: str, log: list[str]) -> None:
    async with turns.turn(tenant):
        await asyncio.sleep(0)
        log.append(tenant)


async def test_tenants_take_turns_and_each_is_served_in_its_order() -> None:
    turns, log = Turns("a test", max_waiting=100), list[str]()
    await asyncio.gather(*(served(turns, tenant, log) for tenant in ("a0", *"a" * 9, *"b" * 3, "c")))
    assert log == ["a0", "a", "b", "c", "a", "b", "a", "b", *"a" * 6]


async def test_whoever_leaves_neither_has_a_turn_nor_loses_one() -> None:
    """Any order of coming and leaving: all who stay are served, one at a time, and the last finds it free."""
    for seed in range(50):
        draw, turns, log = random.Random(seed), Turns("a test", max_waiting=100), list[str]()
        tasks = [asyncio.create_task(served(turns, draw.choice("abc"), log)) for _ in range(20)]
        for _ in range(draw.randrange(15)):
            await asyncio.sleep(0)
        for task in draw.sample(tasks, 8):
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(log) == sum(one is None for one in ended)
        await asyncio.wait_for(served(turns, "z", log), 5)
        assert log[-1] == "z"


async def test_of_one_tenant_only_so_many_wait() -> None:
    turns, log = Turns("a test", max_waiting=3), list[str]()
    crowd = [asyncio.create_task(served(turns, "a", log)) for _ in range(10)]
    neighbour = asyncio.create_task(served(turns, "b", log))
    ended = await asyncio.gather(*crowd, return_exceptions=True)
    await neighbour
    assert [type(one) for one in ended if one is not None] == [Overloaded] * 6
    assert log[:3] == ["a", "a", "b"]


async def test_a_turn_in_a_thread_lasts_until_its_work_has_ended() -> None:
    turns, goes_on, log = Turns("a test", max_waiting=3), threading.Event(), list[str]()
    left = asyncio.create_task(turns.in_thread("a", goes_on.wait))
    await asyncio.sleep(0)
    next_one = asyncio.create_task(turns.in_thread("b", lambda: log.append("b")))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    assert not log and not next_one.done()
    goes_on.set()
    await next_one
    assert log == ["b"]


async def test_a_neighbour_of_many_looping_templates_waits_for_two_at_most() -> None:
    process = TemplateProcess()
    await process.start()
    refused: list[BaseException] = []

    async def loop() -> None:
        with on_behalf_of("a"), pytest.raises(BadInput, match="processor time") as caught:
            await process.render([Job(field="prompt", template=LOOPS, values={})])
        refused.append(caught.value)

    crowd = [asyncio.create_task(loop()) for _ in range(12)]
    await asyncio.sleep(0)
    with on_behalf_of("b"):
        assert await process.render([Job(field="prompt", template="{{ 1 }}", values={})]) == ["1"]
    assert len(refused) <= 2
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    await process.close()
