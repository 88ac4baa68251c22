"""Nothing is compiled in the path of a request: what vLLM's watch over its kernels sees after our warm-up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from graft.adapters.base.base import Base
from graft.server.engine.engine import EngineAdapter, Sampling
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.warm_up.warm_up import warm_up

pytestmark = pytest.mark.gpu


async def compiled(engine: VllmEngine) -> list[str]:
    return [name for worker in await engine.llm.collective_rpc("graft_compilations") for name in worker]


async def test_nothing_is_compiled_after_the_warm_up(
    engine: VllmEngine, base: Base, adapters: Sequence[EngineAdapter]
) -> None:
    await compiled(engine)
    await warm_up(engine, base)
    before = await compiled(engine)
    await engine.load(adapters[0])

    async def ask(number: int) -> None:
        sampling = Sampling(
            max_tokens=4, temperature=0.7, top_p=0.9, top_k=number % 7, min_p=0.01, seed=number, logprobs=number % 21
        )
        adapter = adapters[0] if number % 3 == 0 else None
        async for _ in engine.generate([1] * (number + 1), sampling, request_id=f"compiled-{number}", adapter=adapter):
            pass

    for size in (1, 3, 16, 21):
        await asyncio.gather(*(ask(number) for number in range(size)))
    await engine.unload(adapters[0])
    assert await compiled(engine) == before
