"""The engine's process ends: whoever learns of it by the end of a stream finds the engine gone, vLLM or not."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.v1.engine.exceptions import EngineDeadError

from graft.server.engine.vllm.engine import VllmEngine


@pytest.mark.parametrize(
    ("ends", "how"), [((print,), "ended with code 0"), ((signal.raise_signal, signal.SIGKILL), "was ended by SIGKILL")]
)
async def test_the_engine_is_gone_before_its_streams_end(ends: tuple[Any, ...], how: str) -> None:
    """vLLM's own watch over the process may be later than ours: `errored` stays false here."""
    process = multiprocessing.get_context("spawn").Process(target=ends[0], args=ends[1:])
    gone_at_the_end: list[tuple[type, bool]] = []
    stub = SimpleNamespace(
        errored=False,
        engine_core=SimpleNamespace(resources=SimpleNamespace(engine_manager=SimpleNamespace(processes=[process]))),
        output_processor=SimpleNamespace(
            propagate_error=lambda error: gone_at_the_end.append((type(error), engine.gone))
        ),
    )
    process.start()
    engine = VllmEngine(stub, None, None, None, None)  # type: ignore[arg-type]
    died = asyncio.Event()
    said: list[str] = []
    engine.on_death(lambda how: (said.append(how), died.set()))  # type: ignore[func-returns-value]
    await asyncio.wait_for(died.wait(), 60)
    assert said == [f"its process {how}"]
    assert gone_at_the_end == [(EngineDeadError, True)]
    process.join()


class SlowToTell:
    """A process whose end is seen before its code. `looks`: the loop's steps in which it was asked for the code."""

    pid = 0

    def __init__(self, sentinel: int, steps: list[int]) -> None:
        self.sentinel = sentinel
        self.looks: list[int] = []
        self._steps = steps

    @property
    def exitcode(self) -> int | None:
        self.looks.append(len(self._steps))
        return -signal.SIGKILL if len(self.looks) > 3 else None


async def test_the_loop_goes_on_until_the_code_is_known() -> None:
    steps: list[int] = []

    async def step() -> None:
        while True:
            steps.append(0)
            await asyncio.sleep(0)

    reader, writer = os.pipe()
    process = SlowToTell(reader, steps)
    stub = SimpleNamespace(
        errored=False,
        engine_core=SimpleNamespace(resources=SimpleNamespace(engine_manager=SimpleNamespace(processes=[process]))),
        output_processor=SimpleNamespace(propagate_error=lambda error: None),
    )
    engine = VllmEngine(stub, None, None, None, None)  # type: ignore[arg-type]
    died: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    engine.on_death(died.set_result)
    stepping = asyncio.ensure_future(step())
    os.close(writer)
    assert await asyncio.wait_for(died, 60) == "its process was ended by SIGKILL"
    assert engine.gone and len(process.looks) == len(set(process.looks)) == 4
    stepping.cancel()
    os.close(reader)
