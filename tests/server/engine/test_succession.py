"""What a replacement is started with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineDied, EngineError, EngineInfo
from graft.server.engine.succession import Succession
from graft.server.settings.settings import Settings

BLOCK_TOKENS = 16


class Machine:
    """Each time its memory is found to hold a block less. An engine takes as many as are found, or as many as it is
    told to; it does not start with a context that they do not hold, and without one takes the longest that they do.
    """

    def __init__(self) -> None:
        self.found = 250
        self.num_closed = 0
        self.dies = False

    async def start(self, settings: Settings, base: Any, form: ServingForm, like: EngineInfo | None) -> Any:
        blocks, context = self.found, settings.max_model_tokens
        self.found -= 1
        if like is not None:
            blocks, context = like.num_cache_blocks or blocks, like.max_model_tokens
        if context is None:
            context = blocks * BLOCK_TOKENS
        if context > blocks * BLOCK_TOKENS:
            raise EngineError(f"{blocks} blocks do not hold {context} tokens")
        return SimpleNamespace(info=lambda: self._info(context, blocks), close=self._close)

    async def _info(self, context: int, blocks: int) -> EngineInfo:
        if self.dies:
            raise EngineDied("gone")
        return EngineInfo(
            pid=1,
            engine_version="",
            lora_kernel="",
            max_model_tokens=context,
            num_slots=0,
            max_rank=8,
            num_cache_blocks=blocks,
        )

    async def _close(self) -> None:
        self.num_closed += 1


def succession(machine: Machine, **settings: Any) -> Succession:
    return Succession(machine, Settings(**settings), None, ServingForm.BF16)  # type: ignore[arg-type]


async def sizes(engines: Succession) -> tuple[int, int | None]:
    """Context and blocks of the next."""
    info = await (await engines.next()).info()
    return info.max_model_tokens, info.num_cache_blocks


async def test_every_engine_has_the_first_ones_context_and_the_blocks_that_hold_it() -> None:
    """The first one's context fills what was found to the last block."""
    engines = succession(Machine())
    assert [await sizes(engines) for _ in range(3)] == [(4000, 250)] * 3


async def test_a_context_that_is_set_stays() -> None:
    engines = succession(Machine(), max_model_tokens=512)
    assert [await sizes(engines) for _ in range(2)] == [(512, 250)] * 2


async def test_an_engine_that_dies_at_once_is_closed_and_says_nothing_of_the_next() -> None:
    engines = succession(machine := Machine())
    machine.dies = True
    with pytest.raises(EngineDied):
        await engines.next()
    assert machine.num_closed == 1
    machine.dies = False
    assert await sizes(engines) == (3984, 249)
