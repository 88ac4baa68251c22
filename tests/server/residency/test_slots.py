"""Slots over an engine that fails: a lease is given back exactly once, and one bad version harms no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from graft.adapters.errors import IncompatibleAdapter
from graft.server.engine.engine import EngineAdapter, EngineDied, LoadFailed
from graft.server.operations.metrics import Metrics
from graft.server.residency.slots import Located, Slots


class FaultyEngine:
    """Holds adapters; refuses those named in `bad`. Loads wait for `gate`."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.bad: set[str] = set()
        self.is_dead = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, adapter: EngineAdapter) -> None:
        await self.gate.wait()
        if adapter.digest in self.bad:
            raise LoadFailed(adapter.digest)
        self.held.add(adapter.engine_id)

    async def unload(self, adapter: EngineAdapter) -> None:
        if self.is_dead:
            raise EngineDied("is being replaced")
        self.held.discard(adapter.engine_id)

    async def loaded(self) -> frozenset[int]:
        return frozenset(self.held)


async def locate(digest: str) -> Located:
    return Located(folder=Path(digest), size_bytes=1)


class Suspicious:
    """A check after each load, which those in `wrong` fail. Checks wait for `gate`."""

    def __init__(self) -> None:
        self.wrong: set[str] = set()
        self.checked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, adapter: EngineAdapter) -> None:
        self.checked.append(adapter.digest)
        await self.gate.wait()
        if adapter.digest in self.wrong:
            raise LoadFailed(f"{adapter.digest} does not answer as it should")


def make(num_slots: int = 2) -> tuple[FaultyEngine, Slots]:
    engine = FaultyEngine()
    return engine, Slots(engine, locate, num_slots=num_slots)  # type: ignore[arg-type]


async def use(slots: Slots, digest: str) -> int:
    async with slots.lease(digest) as adapter:
        await asyncio.sleep(0)
        return adapter.engine_id


async def test_a_waiter_cancelled_as_its_load_fails_voids_nothing_else() -> None:
    engine, slots = make()
    engine.gate.clear()
    engine.bad.add("bad")
    first = asyncio.create_task(use(slots, "bad"))
    second = asyncio.create_task(use(slots, "bad"))
    await asyncio.sleep(0)
    engine.gate.set()
    while slots.view():
        await asyncio.sleep(0)
    first.cancel()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(results[1], LoadFailed)
    assert isinstance(results[0], asyncio.CancelledError | LoadFailed)
    engine.bad.clear()
    assert await use(slots, "bad") == 2


async def test_a_cancelled_waiter_leaves_no_lease() -> None:
    engine, slots = make(num_slots=1)
    engine.gate.clear()
    waiter = asyncio.create_task(use(slots, "a"))
    await asyncio.sleep(0.01)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    engine.gate.set()
    assert await asyncio.wait_for(use(slots, "b"), 5) == 2
    assert [each.num_leases for each in slots.view()] == [0]


async def test_more_versions_than_slots_all_get_their_turn() -> None:
    engine, slots = make(num_slots=2)
    digests = [f"v{number % 7}" for number in range(70)]
    ids = await asyncio.wait_for(asyncio.gather(*(use(slots, digest) for digest in digests)), 10)
    assert len(ids) == 70
    assert len(engine.held) <= 2


async def test_restore_lets_go_of_what_does_not_load_any_more() -> None:
    _, slots = make()
    await use(slots, "good")
    await use(slots, "bad")
    replacement = FaultyEngine()
    replacement.bad.add("bad")
    await slots.restore(replacement)  # type: ignore[arg-type]
    await slots.close()
    assert [each.digest for each in slots.view()] == ["good"]
    assert replacement.held == {1}


async def test_an_eviction_while_the_engine_is_replaced_frees_its_slot() -> None:
    """Else the slot is lost, and with all slots lost every adapter waits for ever."""
    engine, slots = make(num_slots=1)
    await use(slots, "a")
    engine.is_dead = True
    assert await asyncio.wait_for(use(slots, "b"), 5) == 2
    engine.is_dead = False
    assert await asyncio.wait_for(use(slots, "a"), 5) == 3


async def test_a_hand_over_is_told_apart_from_other_evictions() -> None:
    metrics = Metrics(CollectorRegistry())
    slots = Slots(FaultyEngine(), locate, num_slots=1, observer=metrics)  # type: ignore[arg-type]
    await use(slots, "a")
    await use(slots, "b")
    async with slots.lease("b"):
        waiter = asyncio.create_task(use(slots, "c"))
        await asyncio.sleep(0)
        assert not slots.usable("b")
    await waiter
    counted = [
        metrics.registry.get_sample_value(f"graft_{name}_total") for name in ("adapter_evictions", "slot_hand_overs")
    ]
    assert counted == [2, 1]


async def test_a_version_is_checked_once_per_load_before_it_counts_as_resident() -> None:
    engine, check = FaultyEngine(), Suspicious()
    slots = Slots(engine, locate, num_slots=1, verify=check)  # type: ignore[arg-type]
    check.gate.clear()
    users = [asyncio.create_task(use(slots, "a")) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert engine.held == {1} and [each.state for each in slots.view()] == ["loading"]
    assert not any(user.done() for user in users), "nobody is served by a version that is still being checked"
    check.gate.set()
    assert await asyncio.gather(*users) == [1, 1, 1]
    await use(slots, "a")
    assert check.checked == ["a"]
    await slots.restore(FaultyEngine())  # type: ignore[arg-type]
    assert check.checked == ["a"], "an engine that comes back gets only what was checked before"


async def test_a_check_may_begin_beside_the_load_and_is_withdrawn_where_that_fails() -> None:
    engine, order = FaultyEngine(), []

    async def verify(adapter: EngineAdapter) -> None:
        order.append(("verify", adapter.digest, bool(engine.held)))

    def expect(adapter: EngineAdapter) -> Callable[[], None]:
        order.append(("expect", adapter.digest, bool(engine.held)))
        return lambda: order.append(("withdraw", adapter.digest, bool(engine.held)))

    slots = Slots(engine, locate, num_slots=1, expect=expect, verify=verify)  # type: ignore[arg-type]
    await use(slots, "a")
    assert order == [("expect", "a", False), ("verify", "a", True)]
    order.clear()
    engine.bad.add("b")
    with pytest.raises(LoadFailed):
        await use(slots, "b")
    assert [(what, who) for what, who, _ in order] == [("expect", "b"), ("withdraw", "b")]


async def test_a_version_that_fails_its_check_leaves_the_engine_and_all_who_wait_hear_why() -> None:
    engine, check = FaultyEngine(), Suspicious()
    slots = Slots(engine, locate, num_slots=1, verify=check)  # type: ignore[arg-type]
    check.wrong.add("bad")
    results = await asyncio.gather(use(slots, "bad"), use(slots, "bad"), use(slots, "good"), return_exceptions=True)
    assert [type(each) for each in results] == [LoadFailed, LoadFailed, int]
    assert engine.held == {results[2]}
    check.wrong.clear()
    assert isinstance(await asyncio.wait_for(use(slots, "bad"), 5), int), "a later load is checked anew"


class Clinging(FaultyEngine):
    """Fails to unload with what vLLM's RPC raises, `times` times, or until it is replaced."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def unload(self, adapter: EngineAdapter) -> None:
        if self.times:
            self.times -= 1
            raise Exception("Call to remove_lora method failed: out of memory")
        await super().unload(adapter)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.server.residency.slots._UNLOAD_PAUSE_SECONDS", 0.0)


async def test_reading_2_an_unload_that_fails_is_tried_again(no_pause: None) -> None:
    engine = Clinging(times=2)
    slots = Slots(engine, locate, num_slots=1)  # type: ignore[arg-type]
    await use(slots, "a")
    assert await asyncio.wait_for(use(slots, "b"), 10) == 2
    assert engine.held == {2}


async def test_reading_2_an_engine_that_lets_nothing_go_is_replaced(no_pause: None) -> None:
    """With one slot every other adapter would wait for ever."""
    engine = Clinging(times=10**9)
    reasons: list[str] = []

    def replace(reason: str) -> None:
        reasons.append(reason)
        engine.is_dead, engine.times, engine.held = True, 0, set()  # the next has forgotten all

    slots = Slots(engine, locate, num_slots=1, distrust=replace)  # type: ignore[arg-type]
    await use(slots, "a")
    waiter = asyncio.create_task(use(slots, "b"))
    assert await asyncio.wait_for(waiter, 10) == 2
    assert reasons == ["a did not leave it in 4 tries"]


async def test_reading_2_an_unload_that_nobody_hears_of_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    _, slots = make(num_slots=1)
    await use(slots, "a")
    slots._resident.clear()  # a fault of ours
    waiter = asyncio.create_task(use(slots, "b"))
    while not caplog.records:
        await asyncio.sleep(0)
    assert "the unload of a failed" in caplog.text
    waiter.cancel()


async def test_reading_13_a_failed_load_leaves_nothing_in_the_metrics() -> None:
    engine, metrics = FaultyEngine(), Metrics(CollectorRegistry())
    engine.bad = {f"v{number}" for number in range(50)}
    slots = Slots(engine, locate, num_slots=2, observer=metrics)  # type: ignore[arg-type]
    for digest in sorted(engine.bad):
        with pytest.raises(LoadFailed):
            await use(slots, digest)
    assert not metrics._load_started_at


async def test_c6_without_slots_an_adapter_is_refused_at_once() -> None:
    """A base on which the engine takes no adapters is served alone."""
    _, slots = make(num_slots=0)
    with pytest.raises(IncompatibleAdapter, match="num_slots: is 0: the base alone is served"):
        await asyncio.wait_for(use(slots, "a"), 5)
    assert not slots.view()


async def test_a_soft_prompt_waits_for_no_slot_and_comes_with_its_virtual_tokens() -> None:
    async def find(digest: str) -> Located:
        return Located(folder=Path(digest), size_bytes=1, num_virtual_tokens=3 if digest.startswith("soft") else 0)

    places = {"num_slots": 1, "num_soft_prompts": 1, "is_soft_prompt": lambda digest: digest.startswith("soft")}
    slots = Slots(FaultyEngine(), find, **places)  # type: ignore[arg-type]
    async with asyncio.timeout(10), slots.lease("a") as lora, slots.lease("soft") as soft:
        assert (lora.num_virtual_tokens, soft.num_virtual_tokens) == (0, 3)
        assert lora.engine_id != soft.engine_id
    without = Slots(FaultyEngine(), find, **(places | {"num_soft_prompts": 0}))  # type: ignore[arg-type]
    assert await use(without, "a") == 1
    with pytest.raises(IncompatibleAdapter, match="--num-soft-prompts"):
        await asyncio.wait_for(use(without, "soft"), 5)
