"""Soft prompts on a real engine against peft: greedy texts, log-probabilities, alone, in batches and from the cache."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from graft.adapters.base.base import Base
from graft.server.engine.engine import EngineAdapter, InvalidRequest, LoadFailed, Sampling
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.warm_up.warm_up import _try_soft_prompt
from tests.server.engine.making import peft_logprobs, soft_prompts

SIZES = (1, 7, 40)  # less than a cache block of 16 on CPUs, and more than two
TEXT = "Tell a story about a fox and the vines of the old garden."
_numbers = itertools.count()


@pytest.fixture(scope="session")
def prompts(base: Base, tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineAdapter, ...]:
    return soft_prompts(base, tmp_path_factory.mktemp("soft"), *SIZES)


@pytest_asyncio.fixture
async def loaded(engine: VllmEngine, prompts: tuple[EngineAdapter, ...]) -> AsyncIterator[tuple[EngineAdapter, ...]]:
    for one in prompts:
        await engine.load(one)
    yield prompts
    for one in prompts:
        await engine.unload(one)


@pytest.fixture(scope="session")
def ids(base: Base) -> list[int]:
    return Tokenizer.from_folder(base.path).encode(TEXT)


def peft_greedy(base: Base, adapter: Path, ids: Sequence[int], num_tokens: int) -> list[int]:
    """The oracle: what peft's model goes on to say, greedily, in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, adapter).eval()
    said = list(ids)
    with torch.no_grad():
        for _ in range(num_tokens):
            said.append(int(model(torch.tensor([said])).logits[0, -1].argmax()))
    return said[len(ids) :]


async def said(engine: VllmEngine, ids: Sequence[int], adapter: EngineAdapter | None, **sampling: Any) -> list[int]:
    stream = engine.generate(
        ids, Sampling(ignore_eos=True, **sampling), request_id=f"soft-{next(_numbers)}", adapter=adapter
    )
    return [token async for delta in stream for token in delta.token_ids]


@pytest.mark.parametrize("number", range(len(SIZES)))
async def test_greedy_texts_are_pefts(
    engine: VllmEngine, base: Base, loaded: tuple[EngineAdapter, ...], ids: list[int], number: int
) -> None:
    adapter = loaded[number]
    assert await said(engine, ids, adapter, max_tokens=24) == peft_greedy(base, adapter.path, ids, 24)


@pytest.mark.parametrize("number", range(len(SIZES)))
async def test_log_probabilities_are_pefts_and_again_from_the_cache(
    engine: VllmEngine, base: Base, loaded: tuple[EngineAdapter, ...], ids: list[int], number: int
) -> None:
    adapter, start = loaded[number], len(ids) - 5
    expected = peft_logprobs(base, adapter.path, ids, start, dtype="float32")
    for _ in range(2):
        score = await engine.score(ids[:start], ids[start:], request_id=f"soft-{next(_numbers)}", adapter=adapter)
        assert [token.logprob for token in score.tokens] == pytest.approx(expected, abs=2e-4)


async def test_a_batch_of_all_kinds_answers_each_as_alone(
    engine: VllmEngine, loaded: tuple[EngineAdapter, ...], adapters: tuple[EngineAdapter, ...], ids: list[int]
) -> None:
    lora = adapters[1]
    await engine.load(lora)
    try:
        everybody: list[EngineAdapter | None] = [None, *loaded, lora]
        alone = [await said(engine, ids, each, max_tokens=16) for each in everybody]
        assert len({tuple(one) for one in alone}) >= len(everybody) - 1, "one virtual token may change nothing here"
        together = await asyncio.gather(*(said(engine, ids, each, max_tokens=16) for each in everybody * 3))
        assert together == alone * 3
    finally:
        await engine.unload(lora)


async def test_versions_share_no_cache_and_a_version_shares_its_own(
    engine: VllmEngine, loaded: tuple[EngineAdapter, ...], base: Base
) -> None:
    ids = Tokenizer.from_folder(base.path).encode(TEXT * 4)

    async def cached(adapter: EngineAdapter | None) -> int:
        stream = engine.generate(
            ids, Sampling(max_tokens=1), request_id=f"soft-{next(_numbers)}", adapter=adapter, cache_salt="soft cache"
        )
        return max([delta.num_cached_tokens async for delta in stream])

    block = engine.block_tokens
    assert await cached(None) == 0
    for one in loaded:
        assert await cached(one) == 0, "of another version's, or of the base's"
        assert await cached(one) >= (one.num_virtual_tokens + len(ids) - 1) // block * block


async def test_two_prompts_of_one_size_are_told_apart(
    engine: VllmEngine, base: Base, ids: list[int], tmp_path: Path
) -> None:
    one, other = soft_prompts(base, tmp_path, 20, 20)
    for each in (one, other):
        await engine.load(each)
    first, second = [await said(engine, ids, each, max_tokens=12) for each in (one, other)]
    assert first != second
    assert [await said(engine, ids, each, max_tokens=12) for each in (one, other)] == [first, second]
    for each in (one, other):
        await engine.unload(each)


async def test_virtual_tokens_take_room_in_the_context(engine: VllmEngine, loaded: tuple[EngineAdapter, ...]) -> None:
    room = engine.max_model_tokens - SIZES[2]
    assert len(await said(engine, [5] * (room - 2), loaded[2], max_tokens=99)) == 2
    with pytest.raises(InvalidRequest, match=f"the context holds {room}"):
        await said(engine, [5] * room, loaded[2])


async def test_a_repetition_penalty_knows_no_virtual_token(
    engine: VllmEngine, base: Base, loaded: tuple[EngineAdapter, ...]
) -> None:
    ids = Tokenizer.from_folder(base.path).encode("ha")
    plain = await said(engine, ids, loaded[1], max_tokens=8)
    unmoved = await said(engine, ids, loaded[1], max_tokens=8, repetition_penalty=1.0 + 1e-6)
    assert plain == unmoved


async def test_a_file_of_another_size_is_not_loaded(engine: VllmEngine, base: Base, tmp_path: Path) -> None:
    (sound,) = soft_prompts(base, tmp_path, 4)
    wrong = EngineAdapter(digest="sha256:wrong", engine_id=77, path=sound.path, num_virtual_tokens=5)
    with pytest.raises(LoadFailed, match="5 virtual tokens of this base"):
        await engine.load(wrong)
    assert 77 not in await engine.loaded()


async def test_a_base_that_computes_from_ids_beside_embeddings_takes_none(
    engine: VllmEngine, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Gemma 3n does; here the engine's embedding of a token is another token's."""
    embeddings, room = engine.embeddings, engine.soft_prompts.max_tokens
    assert await _try_soft_prompt(engine) > 0 and engine.soft_prompts.max_tokens == room > 0
    monkeypatch.setattr(engine, "embeddings", lambda ids: embeddings([each + 300 for each in ids]))
    try:
        await _try_soft_prompt(engine)
        assert (await engine.info()).max_virtual_tokens == 0
        (one,) = soft_prompts(base, tmp_path, 2)
        with pytest.raises(LoadFailed):
            await engine.load(one)
    finally:
        engine.soft_prompts.max_tokens = room
