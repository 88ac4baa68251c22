"""Paths that copy their prompt's last block, on the real engine: the same tokens as where each computes it alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from graft.server.engine.engine import Delta, EngineAdapter, Sampling
from graft.server.engine.vllm.engine import VllmEngine

NUM_PATHS, NUM_TOKENS = 20, 12
_numbers = itertools.count()


def some_ids(length: int) -> list[int]:
    """As no other test asks for: what is cached is this test's own."""
    chance = random.Random(f"copied-blocks/{length}")
    return [chance.randrange(64, 384) for _ in range(length)]


class Caller:
    """Asks the engine under one salt. `num_computed`: prompts' tokens that the engine computed since."""

    def __init__(self, engine: VllmEngine, adapter: EngineAdapter | None = None) -> None:
        self._engine, self._adapter = engine, adapter
        self._salt = f"copied-{next(_numbers)}"
        self._before = engine.num_computed_prompt_tokens

    @property
    def num_computed(self) -> int:
        return self._engine.num_computed_prompt_tokens - self._before

    def stream(self, prompt: Sequence[int], *, seed: int, num_choices: int = 1) -> Any:
        sampling = Sampling(max_tokens=NUM_TOKENS, temperature=1.0, seed=seed, num_choices=num_choices, ignore_eos=True)
        name = f"copied-{next(_numbers)}"
        return self._engine.generate(prompt, sampling, request_id=name, adapter=self._adapter, cache_salt=self._salt)

    async def deltas(self, prompt: Sequence[int], *, seed: int, num_choices: int = 1) -> list[Delta]:
        return [delta async for delta in self.stream(prompt, seed=seed, num_choices=num_choices)]

    async def paths(self, prompt: Sequence[int], num_paths: int = NUM_PATHS) -> list[list[int]]:
        deltas = await self.deltas(prompt, seed=7, num_choices=num_paths)
        cached = {delta.choice: delta.num_cached_tokens for delta in deltas}
        assert cached == {0: 0} | dict.fromkeys(range(1, num_paths), len(prompt) - 1)
        return [tokens(delta for delta in deltas if delta.choice == path) for path in range(num_paths)]


def tokens(deltas: Iterable[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


async def alone(
    engine: VllmEngine, prompt: Sequence[int], num_paths: int = NUM_PATHS, adapter: EngineAdapter | None = None
) -> list[list[int]]:
    """The same paths, each under a salt of its own, so that none finds anything of another; five at a time."""
    found: list[list[int]] = []
    for first in range(0, num_paths, 5):
        calls = (Caller(engine, adapter).deltas(prompt, seed=7 + path) for path in range(first, first + 5))
        found += [tokens(deltas) for deltas in await asyncio.gather(*calls)]
    return found


# Before, at and behind the ends of blocks of 32 tokens.
@pytest.mark.parametrize("prompt_tokens", [1, 20, 32, 34, 330])
async def test_paths_say_what_each_says_alone_and_compute_one_token_each(
    engine: VllmEngine, prompt_tokens: int
) -> None:
    prompt, caller = some_ids(prompt_tokens), Caller(engine)
    paths = await caller.paths(prompt)
    assert caller.num_computed == prompt_tokens + NUM_PATHS - 1
    assert len({tuple(path) for path in paths}) > NUM_PATHS // 2
    assert paths == await alone(engine, prompt)


async def test_so_do_paths_of_an_adapter_beside_those_of_the_base_and_of_another_tenant(
    engine: VllmEngine, adapters: tuple[EngineAdapter, ...]
) -> None:
    prompt, adapter = some_ids(150), adapters[3]
    await engine.load(adapter)
    try:
        callers = [Caller(engine), Caller(engine), Caller(engine, adapter), Caller(engine, adapter)]
        found = await asyncio.gather(*(caller.paths(prompt, 5) for caller in callers))
        of_base, of_adapter = await alone(engine, prompt, 5), await alone(engine, prompt, 5, adapter)
    finally:
        await engine.unload(adapter)
    assert of_base != of_adapter
    assert found == [of_base, of_base, of_adapter, of_adapter]


async def test_a_path_goes_on_where_the_one_that_it_copied_from_is_given_up(engine: VllmEngine) -> None:
    prompt, caller = some_ids(410), Caller(engine)
    second = asyncio.ensure_future(caller.deltas(prompt, seed=2))
    async with contextlib.aclosing(caller.stream(prompt, seed=1)) as first:
        await anext(first)
    expected = await Caller(engine).deltas(prompt, seed=2)
    assert tokens(await second) == tokens(expected)
