"""Adapters on CUDA: mixed batches, peft as the oracle, and a swap beside running streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from graft.adapters.base.base import Base
from graft.server.engine.engine import EngineAdapter, Sampling
from graft.server.engine.vllm.engine import VllmEngine
from tests.server.engine.making import peft_logprobs
from tests.server.engine.vllm.test_mixed_batches import POPULARITY, PROMPTS, assert_scores_are_those_alone, loaded

pytestmark = pytest.mark.gpu
# bfloat16 products differ with the number of rows in a batch.
TOLERANCE = 0.1


@pytest.mark.parametrize("popularity", POPULARITY.values(), ids=POPULARITY.keys())
async def test_scores_in_a_batch_equal_the_same_score_alone(
    engine: VllmEngine, adapters: Sequence[EngineAdapter], popularity: list[int]
) -> None:
    await assert_scores_are_those_alone(engine, adapters, popularity, tolerance=TOLERANCE)


async def test_log_probabilities_are_pefts(engine: VllmEngine, base: Base, adapters: Sequence[EngineAdapter]) -> None:
    if str(engine.llm.model_config.quantization) == "bitsandbytes":
        pytest.skip("the oracle holds the base in bfloat16")
    tokenize = engine.llm.get_tokenizer()
    prompt = tokenize(PROMPTS[0])["input_ids"]
    ids = [*prompt, *tokenize(" lived in the wood", add_special_tokens=False)["input_ids"]]
    async with loaded(engine, adapters):
        for adapter in adapters:
            score = await engine.score(
                prompt, ids[len(prompt) :], request_id=f"peft-{adapter.engine_id}", adapter=adapter
            )
            found = [token.logprob for token in score.tokens]
            wanted = peft_logprobs(base, adapter.path, ids, len(prompt), dtype="bfloat16")
            assert found == pytest.approx(wanted, abs=TOLERANCE)


async def test_a_swap_beside_running_streams(engine: VllmEngine, adapters: Sequence[EngineAdapter]) -> None:
    first, second, *_ = adapters
    ids = engine.llm.get_tokenizer()(PROMPTS[0])["input_ids"]
    sampling = Sampling(max_tokens=200, ignore_eos=True)

    async def stream(number: int, adapter: EngineAdapter | None) -> int:
        request_id = f"swap-{number}"
        deltas = engine.generate(ids, sampling, request_id=request_id, adapter=adapter)
        return sum([len(delta.token_ids) async for delta in deltas])

    await engine.load(first)
    streams = [asyncio.create_task(stream(number, (None, first)[number % 2])) for number in range(16)]
    for _ in range(5):
        await engine.load(second)
        await engine.unload(second)
    assert await asyncio.gather(*streams) == [200] * 16
    await engine.unload(first)
