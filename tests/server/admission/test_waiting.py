"""The queue: turns, slots, give-ups and drains in asyncio."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from graft.server.admission.policy import Admission
from graft.server.admission.waiting import AdmissionQueue
from graft.server.engine.engine import LoadFailed
from graft.server.errors import DeadlineExceeded, Draining, Overloaded
from graft.server.residency.slots import Slots
from tests.server.residency.test_slots import FaultyEngine, locate


def queue(max_running: int = 1, max_queued: int = 2) -> AdmissionQueue:
    return AdmissionQueue(Admission(max_running=max_running, max_queued=max_queued))


async def hold(queue: AdmissionQueue, name: str, release: asyncio.Event, log: list[str]) -> None:
    async with queue.admitted(name, tenant="a", deadline=None):
        log.append(name)
        await release.wait()


async def test_turns_come_in_order_and_cancelled_ones_are_passed_over() -> None:
    one, release = queue(max_queued=3), asyncio.Event()
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
    one, release = queue(), asyncio.Event()
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
    one, release = queue(max_queued=1), asyncio.Event()
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
    assert log == ["a", "b"], "what was admitted runs although the queue is closed"


class House:
    """A queue over slots over an engine, and requests called `a1`, `a2`, `b1`: the letter is adapter and version."""

    def __init__(self, *, num_slots: int, max_running: int, max_queued: int = 20, quantum: float = 50) -> None:
        self.engine = FaultyEngine()
        self.slots = Slots(self.engine, locate, num_slots=num_slots)  # type: ignore[arg-type]
        admission = Admission(max_running=max_running, max_queued=max_queued, quantum=quantum)
        self.queue = AdmissionQueue(admission, slots=self.slots)
        self.running: dict[str, asyncio.Event] = {}

    def start(self, name: str, *, deadline: float | None = None) -> asyncio.Task[None]:
        return asyncio.create_task(self.request(name, deadline))

    async def request(self, name: str, deadline: float | None = None) -> None:
        """Runs until it is told to end; the base's are called `-1`."""
        digest = None if name[0] == "-" else name[0]
        admitted = self.queue.admitted(name, tenant="t", adapter=name[0], digest=digest, deadline=deadline)
        async with admitted:
            assert digest is None or self.slots.adapter(digest).engine_id in self.engine.held
            self.queue.charge(name, prompt_tokens=10)
            end = self.running[name] = asyncio.Event()
            await end.wait()
            self.queue.charge(name, generated_tokens=20)
            del self.running[name]

    async def brief(self, name: str) -> None:
        """A request that runs for a moment."""
        digest = name[0]
        async with self.queue.admitted(name, tenant="t", adapter=digest, digest=digest, deadline=None):
            await asyncio.sleep(0.003)
            self.queue.charge(name, prompt_tokens=10)

    async def ask_again_and_again(self, name: str) -> None:
        for number in itertools.count():
            await self.brief(f"{name}-{number}")

    async def settle(self) -> None:
        """Let all happen that can."""
        for _ in range(4):
            for _ in range(10):
                await asyncio.sleep(0)
            await self.slots.close()

    def leases(self) -> dict[str, int]:
        return {each.digest: each.num_leases for each in self.slots.view()}


async def test_who_waits_for_a_slot_leaves_the_running_places_to_others() -> None:
    house = House(num_slots=1, max_running=2)
    tasks = [house.start(name) for name in ("a1", "b1", "b2", "-1")]
    await house.settle()
    assert set(house.running) == {"a1", "-1"}
    house.running["a1"].set()
    await house.settle()
    assert set(house.running) == {"b1", "-1"} and house.leases() == {"b": 1}
    for _ in range(2):
        for event in list(house.running.values()):
            event.set()
        await house.settle()
    await asyncio.gather(*tasks)
    assert house.queue.num_admitted == 0 and house.leases() == {"b": 0}


async def test_a_version_is_loaded_while_its_request_waits_for_a_place() -> None:
    house = House(num_slots=2, max_running=1)
    tasks = [house.start(name) for name in ("a1", "b1", "c1")]
    await house.settle()
    assert set(house.running) == {"a1"} and house.leases() == {"a": 1, "b": 0}
    house.running["a1"].set()
    await house.settle()
    assert set(house.running) == {"b1"} and house.leases() == {"b": 1, "c": 0}
    for name in ("b1", "c1"):
        house.running[name].set()
        await house.settle()
    await asyncio.gather(*tasks)


async def test_a_load_that_fails_is_told_to_those_who_wait_for_it_and_to_nobody_else() -> None:
    house = House(num_slots=1, max_running=3)
    house.engine.bad.add("a")
    results = asyncio.gather(house.start("a1"), house.start("a2"), house.start("b1"), return_exceptions=True)
    await house.settle()
    house.running["b1"].set()
    assert [type(each) for each in await results] == [LoadFailed, LoadFailed, type(None)]
    house.engine.bad.clear()
    again = house.start("a3")
    await house.settle()
    house.running["a3"].set()
    await again
    assert house.queue.num_admitted == 0


async def test_a_deadline_that_passes_before_a_slot_is_free_is_kept() -> None:
    house = House(num_slots=1, max_running=3)
    first = house.start("a1")
    await house.settle()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    with pytest.raises(DeadlineExceeded):
        await house.request("b1", begin + 0.05)
    assert 0.05 <= loop.time() - begin < 2
    house.running["a1"].set()
    await first
    await house.settle()
    assert house.queue.num_admitted == 0 and house.leases() == {"a": 0}, "nothing is loaded for who has gone"


async def test_a_caller_who_leaves_as_its_turn_comes_keeps_no_lease() -> None:
    house = House(num_slots=2, max_running=1)
    first, second = house.start("a1"), house.start("b1")
    await house.settle()
    house.running["a1"].set()
    while house.leases()["b"] == 0:
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert house.leases() == {"a": 0, "b": 0} and house.queue.num_admitted == 0


@pytest.mark.parametrize("by", ["request", "operator"])
async def test_overlapping_hits_do_not_keep_a_slot_for_ever(by: str) -> None:
    """Requests for `a` overlap without a gap; `b`, which a request or a swap asks for, comes all the same."""
    house = House(num_slots=1, max_running=4)
    callers = [asyncio.create_task(house.ask_again_and_again(f"a{number}")) for number in range(8)]
    await house.settle()
    if by == "operator":
        assert await asyncio.wait_for(house.slots.prefetch("b"), 10) is not None
    else:
        await asyncio.wait_for(house.brief("b1"), 10)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert house.queue.num_admitted == 0


async def test_a_flood_gives_its_newest_place_to_who_has_none() -> None:
    house = House(num_slots=2, max_running=1, max_queued=2)
    tasks = [house.start(name) for name in ("a1", "a2", "a3", "b1")]
    await house.settle()
    assert isinstance(tasks[2].exception(), Overloaded)
    for name in ("a1", "b1", "a2"):
        house.running[name].set()
        await house.settle()
    await asyncio.gather(tasks[0], tasks[1], tasks[3])


async def test_a_drain_waits_for_who_waits_for_a_slot() -> None:
    house = House(num_slots=1, max_running=2)
    tasks = [house.start("a1"), house.start("b1")]
    await house.settle()
    house.queue.close()
    assert await house.queue.drained(0.01) == 2
    for name in ("a1", "b1"):
        house.running[name].set()
        await house.settle()
    assert await house.queue.drained(1.0) == 0
    await asyncio.gather(*tasks)


async def test_a_hint_loads_ahead_and_disturbs_nobody() -> None:
    house = House(num_slots=2, max_running=2)
    first = house.start("a1")
    await house.settle()
    house.slots.hint("b")
    await house.settle()
    assert house.leases() == {"a": 1, "b": 0}
    house.slots.hint("c")
    await house.settle()
    assert house.leases() == {"a": 1, "c": 0}
    house.running["a1"].set()
    await first
