"""The gate: turns, give-ups and drains in asyncio."""

from __future__ import annotations

import asyncio

import pytest

from graft.server.admission import Admission
from graft.server.errors import DeadlineExceeded, Draining, Overloaded
from graft.server.gate import Gate


def gate(max_running: int = 1, max_queued: int = 2) -> Gate:
    return Gate(Admission(max_running=max_running, max_queued=max_queued))


async def hold(gate: Gate, name: str, release: asyncio.Event, log: list[str]) -> None:
    async with gate.admitted(name, tenant="a", deadline=None):
        log.append(name)
        await release.wait()


async def test_turns_come_in_order_and_cancelled_ones_are_passed_over() -> None:
    one, release = gate(max_queued=3), asyncio.Event()
    log: list[str] = []
    tasks = [asyncio.create_task(hold(one, name, release, log)) for name in "abc"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    assert log == ["a"] and one.num_admitted == 2
    release.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert log == ["a", "c"] and one.num_admitted == 0


async def test_a_turn_that_comes_too_late_is_a_deadline_and_leaves_no_trace() -> None:
    one, release = gate(), asyncio.Event()
    log: list[str] = []
    task = asyncio.create_task(hold(one, "a", release, log))
    await asyncio.sleep(0)
    now = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded):
        async with one.admitted("b", tenant="a", deadline=now + 0.02):
            log.append("b")
    release.set()
    await task
    assert log == ["a"] and one.num_admitted == 0


async def test_a_full_gate_refuses_and_a_closed_one_drains() -> None:
    one, release = gate(max_queued=1), asyncio.Event()
    log: list[str] = []
    tasks = [asyncio.create_task(hold(one, name, release, log)) for name in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        async with one.admitted("c", tenant="a", deadline=None):
            log.append("c")
    assert refused.value.retry_after_seconds > 0
    one.close()
    with pytest.raises(Draining):
        async with one.admitted("d", tenant="a", deadline=None):
            log.append("d")
    assert await one.drained(0.01) == 2
    release.set()
    assert await one.drained(1.0) == 0
    await asyncio.gather(*tasks)
    assert log == ["a", "b"], "what was admitted runs although the gate is closed"
