"""What is tried out before readiness: on the real engine, and where the engine does not live through it."""

from __future__ import annotations

import pytest

from graft.adapters.base import Base
from graft.server.engine.engine import EngineDied, EngineError, InvalidRequest
from graft.server.engine.vllm_engine import VllmEngine
from graft.server.engine.warm_up import CHATS, COMPLETIONS, Kind, _try, warm_up


async def test_every_kind_passes_and_nothing_stays(
    engine: VllmEngine, base: Base, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before = await engine.loaded()
    assert await warm_up(engine, base) > len(COMPLETIONS) + len(CHATS)
    assert await engine.loaded() == before
    assert "this base has no" not in caplog.text


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


async def test_a_kind_that_the_base_does_not_have_is_left_out() -> None:
    await _try({"chat": failing(InvalidRequest("no template"))})
