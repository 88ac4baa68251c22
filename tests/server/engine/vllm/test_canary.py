"""The canary tells a busy engine from a dead one."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from graft.adapters.base.base import Base
from graft.server.engine.engine import EngineDied, Sampling
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.launch import launch
from tests.server.engine.making import engine_settings


async def test_an_idle_engine_answers(engine: VllmEngine) -> None:
    await asyncio.wait_for(engine.canary(), 20)


async def test_a_full_batch_is_a_sign_of_life_a_stopped_process_is_not_and_a_dead_one_says_so(base: Base) -> None:
    """One engine whose batch holds two requests: the canary's own token waits behind them."""
    engine = await launch(engine_settings(base, max_running=2))

    async def long(number: int) -> int:
        sampling = Sampling(max_tokens=900, ignore_eos=True)
        return sum(
            [len(d.token_ids) async for d in engine.generate([300], sampling, request_id=str(number), adapter=None)]
        )

    try:
        busy = [asyncio.create_task(long(number)) for number in range(4)]
        await asyncio.sleep(0.2)
        await asyncio.wait_for(engine.canary(), 10)
        assert not any(task.done() for task in busy)
        os.kill(engine.pid, signal.SIGSTOP)
        await asyncio.sleep(0.5)  # what had been sent already arrives
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.canary(), 2)
        os.kill(engine.pid, signal.SIGKILL)
        for outcome in await asyncio.gather(*busy, return_exceptions=True):
            assert isinstance(outcome, EngineDied)
        with pytest.raises(EngineDied):
            await engine.canary()
    finally:
        await engine.close()
