"""Adapters on CUDA: mixed batches, peft as the oracle, and a swap beside running streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from graft.adapters.base import Base
from graft.server.engine.engine import EngineAdapter, Sampling
from graft.server.engine.vllm_engine import VllmEngine
from tests.server.engine.test_mixed_batches import POPULARITY, PROMPTS, loaded, scores_alone_and_together

pytestmark = pytest.mark.gpu
# bfloat16 products differ with the number of rows in a batch.
TOLERANCE = 0.1


@pytest.mark.parametrize("popularity", POPULARITY.values(), ids=POPULARITY.keys())
async def test_scores_in_a_batch_equal_the_same_score_alone(
    engine: VllmEngine, adapters: Sequence[EngineAdapter], popularity: list[int]
) -> None:
    async with loaded(engine, adapters):
        alone, together = await scores_alone_and_together(engine, adapters, popularity)
    for a, b in zip(alone, together, strict=True):
        assert a == pytest.approx(b, abs=TOLERANCE)


async def test_log_probabilities_are_pefts(engine: VllmEngine, base: Base, adapters: Sequence[EngineAdapter]) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if str(engine.llm.model_config.quantization) == "bitsandbytes":
        pytest.skip("the oracle holds the base in bfloat16")
    tokenize = engine.llm.get_tokenizer()
    prompt = tokenize(PROMPTS[0])["input_ids"]
    ids = [*prompt, *tokenize(" lived in the wood", add_special_tokens=False)["input_ids"]]
    async with loaded(engine, adapters):
        for adapter in adapters:
            plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.bfloat16)
            model = PeftModel.from_pretrained(plain, adapter.path).eval()
            with torch.no_grad():
                expected = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
            score = await engine.score(
                prompt, ids[len(prompt) :], request_id=f"peft-{adapter.engine_id}", adapter=adapter
            )
            found = [token.logprob for token in score.tokens]
            wanted = [float(expected[at - 1, ids[at]]) for at in range(len(prompt), len(ids))]
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
