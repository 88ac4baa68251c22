"""Seeded requests whose prompts do not fit one step together: the engine lives, and each says what it says alone."""

from __future__ import annotations

import asyncio
import random

from graft.server.engine.engine import Sampling
from graft.server.engine.vllm.engine import VllmEngine

NUM_REQUESTS, PROMPT_TOKENS = 6, 900


async def said(engine: VllmEngine, number: int, salt: str) -> list[int]:
    chance = random.Random(f"seeds/{number}")
    prompt = [chance.randrange(64, 384) for _ in range(PROMPT_TOKENS)]
    sampling = Sampling(max_tokens=8, temperature=1.0, seed=number, ignore_eos=True)
    stream = engine.generate(prompt, sampling, request_id=f"{salt}-{number}", adapter=None, cache_salt=salt)
    return [token async for delta in stream for token in delta.token_ids]


async def test_a_prompt_in_several_steps_samples_as_in_one(engine: VllmEngine) -> None:
    step_tokens = engine.llm.vllm_config.scheduler_config.max_num_batched_tokens
    assert PROMPT_TOKENS < step_tokens < NUM_REQUESTS * PROMPT_TOKENS
    together = await asyncio.gather(*(said(engine, number, "seeds-together") for number in range(NUM_REQUESTS)))
    alone = [await said(engine, number, f"seeds-alone-{number}") for number in range(NUM_REQUESTS)]
    assert together == alone
