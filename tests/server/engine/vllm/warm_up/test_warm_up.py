"""What is tried out before readiness: on the real engine, and where the engine does not live through it."""

from __future__ import annotations

import asyncio

import pytest

from graft.adapters.base.base import Base
from graft.server.engine.engine import EngineDied, EngineError, InvalidRequest
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.warm_up.warm_up import CHATS, COMPLETIONS, Kind, _try, warm_up


async def test_every_kind_passes_and_nothing_stays(engine: VllmEngine, base: Base) -> None:
    before = await engine.loaded()
    assert await warm_up(engine, base) > len(COMPLETIONS) + len(CHATS)
    assert await engine.loaded() == before


def failing(error: Exception) -> Kind:
    async def ask(request_id: str) -> None:
        raise error

    return ask


async def passing(request_id: str) -> None:
    pass


async def test_a_kind_that_ends_the_engine_is_named() -> None:
    kinds = {"plain": passing, "score": failing(EngineDied("gone")), "echo": failing(EngineError("no logits"))}
    with pytest.raises(EngineError, match=r"failed: its process ended on score; echo: no logits$"):
        await _try(kinds)


async def test_a_kind_that_is_refused_is_a_problem() -> None:
    """Every base has every kind, so that a refusal is a fault of ours."""
    with pytest.raises(EngineError, match=r"failed: grammar: unknown rule$"):
        await _try({"plain": passing, "grammar": failing(InvalidRequest("unknown rule"))})


async def test_kinds_that_never_end_are_named_and_ended() -> None:
    ended: list[str] = []

    async def hanging(request_id: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(request_id)

    with pytest.raises(EngineError, match=r"failed: echo: no logits; no end within 0 s of score, chat$"):
        await _try(
            {"plain": passing, "score": hanging, "echo": failing(EngineError("no logits")), "chat": hanging},
            limit_seconds=0.0,
        )
    await asyncio.sleep(0)
    assert ended == ["warm-up-1", "warm-up-3"]
