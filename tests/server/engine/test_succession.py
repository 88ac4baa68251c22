"""What a replacement is started with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineDied
from graft.server.engine.succession import Succession
from graft.server.settings.settings import Settings


class Machine:
    """Its memory holds fewer tokens each time; an engine has as many, or as many as it is told to."""

    def __init__(self) -> None:
        self.holds = [4000, 3000, 2000]
        self.asked: list[int | None] = []
        self.num_closed = 0
        self.dies = False

    async def start(self, settings: Settings, base: Any, form: ServingForm) -> Any:
        self.asked.append(settings.max_model_tokens)
        context = settings.max_model_tokens or self.holds[len(self.asked) - 1]
        return SimpleNamespace(info=lambda: self._info(context), close=self._close)

    async def _info(self, context: int) -> Any:
        if self.dies:
            raise EngineDied("gone")
        return SimpleNamespace(max_model_tokens=context)

    async def _close(self) -> None:
        self.num_closed += 1


def succession(machine: Machine, **settings: Any) -> Succession:
    return Succession(machine, Settings(**settings), None, ServingForm.BF16)  # type: ignore[arg-type]


async def test_every_engine_has_the_first_ones_context() -> None:
    engines = succession(machine := Machine())
    contexts = [(await (await engines.next()).info()).max_model_tokens for _ in range(3)]
    assert contexts == [4000, 4000, 4000] and machine.asked == [None, 4000, 4000]


async def test_a_context_that_is_set_stays() -> None:
    engines = succession(machine := Machine(), max_model_tokens=512)
    for _ in range(2):
        await engines.next()
    assert machine.asked == [512, 512]


async def test_an_engine_that_dies_at_once_is_closed_and_says_nothing_of_the_next() -> None:
    engines = succession(machine := Machine())
    machine.dies = True
    with pytest.raises(EngineDied):
        await engines.next()
    assert machine.num_closed == 1
    machine.dies = False
    assert (await (await engines.next()).info()).max_model_tokens == 3000
