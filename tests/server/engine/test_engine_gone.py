"""The engine's process ends: whoever learns of it by the end of a stream finds the engine gone, vLLM or not."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.v1.engine.exceptions import EngineDeadError

from graft.server.engine.vllm_engine import VllmEngine


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
