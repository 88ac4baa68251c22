"""Whose prompt the engine has kept: blocks are used again for the same salt, which a tenant has to itself."""

from __future__ import annotations

import itertools

from prometheus_client import CollectorRegistry

from graft.adapters.base.base import Base
from graft.server.engine.engine import EngineAdapter, Prompt, Sampling
from graft.server.engine.openai import OpenAIRequest
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.openai import VllmOpenAIBackend
from graft.server.operations.metrics import Metrics, RequestMeter

# Longer than a cache block, and asked by no other test.
TEXT = "What one tenant asks, no other may learn of, not even from how soon its own answer comes. " * 4
_numbers = itertools.count()


class Caller:
    """Asks as serving does for one tenant, over either front; returns how many prompt tokens came from the cache."""

    def __init__(self, engine: VllmEngine, base: Base) -> None:
        self._engine = engine
        self._backend = VllmOpenAIBackend(lambda: engine, base.name)
        self._ids = Tokenizer.from_folder(base.path).encode(TEXT)

    async def over_grpc(self, salt: str | None, adapter: EngineAdapter | None = None) -> int:
        stream = self._engine.generate(
            self._ids, Sampling(max_tokens=1), request_id=self._new_id(), adapter=adapter, cache_salt=salt
        )
        return max([delta.num_cached_tokens async for delta in stream])

    async def over_http(self, salt: str | None, **fields: object) -> int:
        metrics = Metrics(CollectorRegistry())
        meter = RequestMeter(metrics, tenant=salt or "default", entered_at=0.0, charge=lambda **tokens: None)
        request = OpenAIRequest(fields={"max_tokens": 1, **fields}, prompts=[Prompt(token_ids=self._ids, text=TEXT)])
        reply = await self._backend.answer(
            request, adapter=None, request_id=self._new_id(), meter=meter, cache_salt=salt
        )
        assert reply.body is not None
        return meter.num_cached_tokens

    def _new_id(self) -> str:
        return f"prefix-{next(_numbers)}"


async def test_a_tenant_uses_its_own_prompts_again_on_both_fronts(engine: VllmEngine, base: Base) -> None:
    caller = Caller(engine, base)
    assert await caller.over_grpc("ann") == 0
    again = await caller.over_grpc("ann")
    assert again > 0
    assert await caller.over_http("ann", prompt=TEXT) == again
    assert await caller.over_http("ann", messages=[{"role": "user", "content": "as rendered"}]) == again


async def test_two_tenants_share_no_block(engine: VllmEngine, base: Base) -> None:
    caller = Caller(engine, base)
    await caller.over_grpc("one")
    assert await caller.over_grpc("other") == 0
    assert await caller.over_http("third", prompt=TEXT) == 0
    assert await caller.over_http(None, messages=[{"role": "user", "content": "as rendered"}]) == 0
    assert await caller.over_grpc(None) > 0, "the default tenant's, of the line before"


async def test_nor_where_both_have_the_same_adapter(
    engine: VllmEngine, base: Base, adapters: tuple[EngineAdapter, ...]
) -> None:
    caller, adapter = Caller(engine, base), adapters[0]
    await engine.load(adapter)
    try:
        assert await caller.over_grpc("left", adapter) == 0
        assert await caller.over_grpc("right", adapter) == 0
        assert await caller.over_grpc("left", adapter) > 0
    finally:
        await engine.unload(adapter)


async def test_choices_that_share_a_prompt_have_cached_what_was_there_before(engine: VllmEngine, base: Base) -> None:
    caller = Caller(engine, base)
    assert await caller.over_http("many", prompt=TEXT, n=8, temperature=1.0, seed=1) == 0
    again = await caller.over_grpc("many")
    assert await caller.over_http("many", prompt=TEXT, n=8, temperature=1.0, seed=1) == again
