"""The watch over an engine: it never ends unseen, and what does not come back is tried ever more seldom, and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from graft.server.engine.state import EngineState
from graft.server.engine.supervisor import Supervisor


class Engine:
    """Dies, hangs and refuses to close as told."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._callbacks: list[Callable[[str], None]] = []
        self.closed = False

    def on_death(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    def die(self, how: str = "its process was ended by SIGKILL") -> None:
        for callback in self._callbacks:
            callback(how)

    async def canary(self) -> None:
        if self._plan.silent:
            await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True
        if self._plan.close_error is not None:
            raise self._plan.close_error


@dataclass(kw_only=True)
class Plan:
    """What starts do, how long was slept, and what was told."""

    start_errors: list[Exception] = field(default_factory=list)
    close_error: Exception | None = None
    silent: bool = False
    restore_hangs: int = 0
    engines: list[Engine] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    told: list[EngineState] = field(default_factory=list)

    async def start(self) -> Any:
        if self.engines and self.start_errors:
            raise self.start_errors.pop(0)
        self.engines.append(Engine(self))
        return self.engines[-1]

    async def restore(self, engine: Any) -> None:
        if self.restore_hangs:
            self.restore_hangs -= 1
            self.silent = True
            await asyncio.Event().wait()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


async def supervised(plan: Plan) -> Supervisor:
    supervisor = Supervisor(
        plan.start,
        canary_interval_seconds=0.01,
        canary_timeout_seconds=0.05,
        sleep=plan.sleep,
    )
    supervisor.subscribe(plan.told.append)
    await supervisor.start(restore=plan.restore)
    return supervisor


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_reading_3_an_engine_that_does_not_close_is_replaced_all_the_same() -> None:
    plan = Plan(close_error=RuntimeError("zmq said no"))
    supervisor = await supervised(plan)
    for number in range(1, 4):
        plan.engines[-1].die()
        await until(lambda number=number: supervisor.num_restarts == number and supervisor.ready)
    assert len(plan.engines) == 4 and all(engine.closed for engine in plan.engines[:3])
    await supervisor.close()


async def test_reading_3_a_listener_that_fails_ends_no_watch() -> None:
    plan = Plan()
    supervisor = await supervised(plan)

    def fail(state: EngineState) -> None:
        raise ValueError("no such gauge")

    supervisor.subscribe(fail)
    plan.engines[0].die()
    await until(lambda: supervisor.num_restarts == 1 and supervisor.ready)
    await supervisor.close()


async def test_c14_starts_that_fail_are_tried_ever_more_seldom_and_told() -> None:
    """Each pause is at least the one before, up to a minute, and the reason stands in what is told meanwhile."""
    plan = Plan()
    supervisor = await supervised(plan)
    plan.start_errors = [RuntimeError("illegal instruction\nin a kernel")] * 8
    plan.engines[0].die()
    await until(lambda: supervisor.num_restarts == 1 and supervisor.ready)
    assert plan.slept == sorted(plan.slept) and plan.slept[-1] == 60
    whys = [state.why for state in plan.told]
    assert any("8 failures in a row: illegal instruction; next try in 60 s" in why for why in whys), whys
    assert max(state.num_failures for state in plan.told) == 9
    assert all(not state.why for state in plan.told if state.ready)
    await supervisor.close()


async def test_c14_an_engine_that_dies_again_and_again_backs_off_within_what_its_callers_can_bear() -> None:
    """F1: back within start-up + 10 s, however often it was killed."""
    plan = Plan()
    supervisor = await supervised(plan)
    for number in range(1, 21):
        plan.engines[-1].die()
        assert not supervisor.ready and "SIGKILL" in supervisor.state.why
        await until(lambda number=number: supervisor.num_restarts == number and supervisor.ready)
    assert plan.slept == sorted(plan.slept) and 0 < plan.slept[-1] < 10
    await supervisor.close()


async def test_an_engine_that_lasts_ends_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.server.engine.supervisor.PROVEN_SECONDS", 0.0)
    plan = Plan()
    supervisor = await supervised(plan)
    plan.engines[0].die()
    await until(lambda: supervisor.ready and supervisor.num_restarts == 1 and not supervisor.state.num_failures)
    await supervisor.close()


async def test_an_engine_that_hangs_while_it_is_restored_is_given_up() -> None:
    plan = Plan(restore_hangs=1)
    supervisor = await supervised(plan)
    plan.engines[0].die()
    await until(lambda: len(plan.engines) > 1 and plan.engines[1].closed)
    plan.silent = False
    await until(lambda: supervisor.ready)
    assert any("it gave no token within" in state.why for state in plan.told)
    await supervisor.close()


async def test_only_the_engine_that_serves_can_make_the_server_ill() -> None:
    plan = Plan()
    supervisor = await supervised(plan)
    plan.engines[0].die()
    await until(lambda: supervisor.ready and supervisor.num_restarts == 1)
    plan.engines[0].die()  # told late
    await asyncio.sleep(0.05)
    assert (supervisor.ready, supervisor.num_restarts) == (True, 1)
    supervisor.distrust("an adapter did not leave it")
    assert not supervisor.ready
    await until(lambda: supervisor.ready and supervisor.num_restarts == 2)
    await supervisor.close()


async def test_closing_ends_the_watch_also_where_the_engine_answers_in_that_moment() -> None:
    plan, closing = Plan(), list[asyncio.Future[None]]()
    supervisor = await supervised(plan)

    async def canary() -> None:
        if not closing:
            closing.append(asyncio.ensure_future(supervisor.close()))

    plan.engines[0].canary = canary  # type: ignore[method-assign]
    async with asyncio.timeout(20):
        await until(lambda: bool(closing))
        await closing[0]
    assert plan.engines[0].closed
