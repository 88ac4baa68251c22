"""Base and adapters in one batch, on the real engine: every row equals the same request alone.

Stock vLLM on CPU answers rows of the base with an adapter; the last test shows that these checks see it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from graft.adapters.base.base import Base
from graft.server.engine.engine import EngineAdapter, EngineError, Sampling
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.launch import launch
from tests.server.engine.making import engine_settings, peft_logprobs

NUM_TOKENS = 24
# In bfloat16 the base's own products may differ with the number of rows; with AVX-512 bf16 the difference was 0.
BF16_TOLERANCE = 0.02
PROMPTS = [
    "Once upon a time there was a small fox who",
    "12+35? ",
    "cat -> tac\nsun -> nus\nred -> ",
    "Q: What is the capital of the country?\nA:",
    "a",
    "The film was long and I " * 12,
]
# Rows by popularity of base (0) and adapters of ranks 1, 8, 16 and 64 (1, 2, 3, 4).
POPULARITY = {
    "distinct": [0, 1, 2, 3, 4],
    "uniform": [0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 2, 0, 3, 1],
    "skewed": [1, 1, 1, 0, 1, 1, 2, 1, 1, 3, 1, 4],
    "identical": [2, 2, 2, 2, 2, 2],
}
_ids = itertools.count()


@dataclass(frozen=True)
class Answer:
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


async def ask(engine: VllmEngine, prompt: str, adapter: EngineAdapter | None) -> Answer:
    ids, logprobs = [], []
    sampling = Sampling(max_tokens=NUM_TOKENS, ignore_eos=True, logprobs=0)
    prompt_ids = engine.llm.get_tokenizer()(prompt)["input_ids"]
    async for delta in engine.generate(prompt_ids, sampling, request_id=f"mixed-{next(_ids)}", adapter=adapter):
        ids += delta.token_ids
        logprobs += [token.logprob for token in delta.logprobs]
    assert len(ids) == len(logprobs) == NUM_TOKENS
    return Answer(tuple(ids), tuple(logprobs))


async def rows_that_differ(
    engine: VllmEngine, adapters: Sequence[EngineAdapter], popularity: list[int], *, stagger: bool
) -> list[int]:
    """Row numbers whose answer in the batch is not the answer alone."""
    choices = [None, *adapters]
    rows = [(PROMPTS[row % len(PROMPTS)], choices[choice]) for row, choice in enumerate(popularity)]
    await engine.llm.reset_prefix_cache()
    alone = [await ask(engine, *row) for row in rows]
    await engine.llm.reset_prefix_cache()

    async def late(row: int) -> Answer:
        # Staggered rows are prefilled while others decode.
        await asyncio.sleep(0.02 * row if stagger else 0)
        return await ask(engine, *rows[row])

    together = await asyncio.gather(*(late(row) for row in range(len(rows))))
    return [row for row, (a, b) in enumerate(zip(alone, together, strict=True)) if not same(a, b)]


def same(a: Answer, b: Answer) -> bool:
    close = (math.isclose(x, y, rel_tol=0, abs_tol=1e-4) for x, y in zip(a.logprobs, b.logprobs, strict=True))
    return a.token_ids == b.token_ids and all(close)


@contextlib.asynccontextmanager
async def loaded(engine: VllmEngine, adapters: Sequence[EngineAdapter]) -> AsyncIterator[None]:
    for adapter in adapters:
        await engine.load(adapter)
    yield
    for adapter in adapters:
        await engine.unload(adapter)
    assert not await engine.loaded()


@pytest.mark.parametrize("stagger", [False, True], ids=["together", "prefill-while-others-decode"])
@pytest.mark.parametrize("popularity", POPULARITY.values(), ids=POPULARITY.keys())
async def test_every_row_equals_the_same_request_alone(
    engine: VllmEngine, adapters: Sequence[EngineAdapter], popularity: list[int], stagger: bool
) -> None:
    async with loaded(engine, adapters):
        assert await rows_that_differ(engine, adapters, popularity, stagger=stagger) == []


@pytest.mark.parametrize("popularity", POPULARITY.values(), ids=POPULARITY.keys())
async def test_scores_in_a_batch_equal_the_same_score_alone(
    engine: VllmEngine, adapters: Sequence[EngineAdapter], popularity: list[int]
) -> None:
    """A prompt's log-probabilities take a way of their own through the output head, with other rows than the step's."""
    await assert_scores_are_those_alone(engine, adapters, popularity, tolerance=1e-4)


async def test_in_bf16_scores_are_equal_within_its_rounding(
    bf16_engine: VllmEngine, adapters: Sequence[EngineAdapter]
) -> None:
    for popularity in POPULARITY.values():
        await assert_scores_are_those_alone(bf16_engine, adapters, popularity, tolerance=BF16_TOLERANCE)


async def assert_scores_are_those_alone(
    engine: VllmEngine, adapters: Sequence[EngineAdapter], popularity: list[int], *, tolerance: float
) -> None:
    async with loaded(engine, adapters):
        alone, together = await scores_alone_and_together(engine, adapters, popularity)
    for a, b in zip(alone, together, strict=True):
        assert a == pytest.approx(b, abs=tolerance)


async def scores_alone_and_together(
    engine: VllmEngine, adapters: Sequence[EngineAdapter], popularity: list[int]
) -> tuple[list[list[float]], list[list[float]]]:
    """Each row's log-probabilities by itself, and with all others while answers are being written."""
    choices = [None, *adapters]
    tokenize = engine.llm.get_tokenizer()

    async def score(row: int) -> list[float]:
        prompt, continuation = (
            tokenize(PROMPTS[row % len(PROMPTS)])["input_ids"],
            tokenize(" lived" * row + ".")["input_ids"],
        )
        adapter = choices[popularity[row]]
        found = await engine.score(prompt, continuation, request_id=f"score-{next(_ids)}", adapter=adapter)
        return [token.logprob for token in found.tokens]

    alone = [await score(row) for row in range(len(popularity))]
    decoding = [ask(engine, PROMPTS[0], adapter) for adapter in choices]
    together, *_ = await asyncio.gather(asyncio.gather(*map(score, range(len(popularity)))), *decoding)
    return alone, together


async def test_adapters_and_base_say_different_things(engine: VllmEngine, adapters: Sequence[EngineAdapter]) -> None:
    """Else the test above would prove nothing."""
    async with loaded(engine, adapters):
        answers = {(await ask(engine, PROMPTS[0], adapter)).token_ids for adapter in (None, *adapters)}
    assert len(answers) == 5


async def test_log_probabilities_equal_peft(engine: VllmEngine, base: Base, adapters: Sequence[EngineAdapter]) -> None:
    """The oracle: peft on the same base in float32."""
    prompt = engine.llm.get_tokenizer()(PROMPTS[0])["input_ids"]
    ids = [*prompt, *engine.llm.get_tokenizer()(" lived in the wood", add_special_tokens=False)["input_ids"]]
    async with loaded(engine, adapters):
        for adapter in adapters:
            expected = peft_logprobs(base, adapter.path, ids, len(prompt), dtype="float32")
            score = await engine.score(
                prompt, ids[len(prompt) :], request_id=f"peft-{adapter.engine_id}", adapter=adapter
            )
            assert [token.logprob for token in score.tokens] == pytest.approx(expected, abs=2e-3)


async def test_without_the_plugin_start_up_refuses_and_these_checks_fail(
    base: Base, adapters: Sequence[EngineAdapter]
) -> None:
    stock = await launch(engine_settings(base, plugins=("bitsandbytes",)))
    try:
        with pytest.raises(EngineError, match="rows of the base would be answered by an adapter"):
            await stock.check_lora()
        async with loaded(stock, adapters):
            wrong = await rows_that_differ(stock, adapters, POPULARITY["uniform"], stagger=False)
        base_rows = {row for row, choice in enumerate(POPULARITY["uniform"]) if choice == 0}
        assert base_rows & set(wrong)
    finally:
        await stock.close()
