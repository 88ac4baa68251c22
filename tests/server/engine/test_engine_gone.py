"""The engine's process ends: whoever learns of it by the end of a stream finds the engine gone, vLLM or not."""

from __future__ import annotations

import asyncio
import multiprocessing
from types import SimpleNamespace

from vllm.v1.engine.exceptions import EngineDeadError

from graft.server.engine.vllm_engine import VllmEngine


async def test_the_engine_is_gone_before_its_streams_end() -> None:
    """vLLM's own watch over the process may be later than ours: `errored` stays false here."""
    process = multiprocessing.get_context("spawn").Process(target=print)
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
    assert said == ["its process ended with code 0"]
    assert gone_at_the_end == [(EngineDeadError, True)]
    process.join()
