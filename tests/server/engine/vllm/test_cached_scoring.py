"""Scores that read the prompt from the cache: the numbers of transformers, and no continuation's place is read."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from prometheus_client import CollectorRegistry
from transformers import AutoModelForCausalLM

from graft.adapters.base.base import Base
from graft.server.engine.engine import ContinuationScore, EngineAdapter, EngineError, Prompt
from graft.server.engine.openai import OpenAIRequest
from graft.server.engine.vllm import conversion
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.inside.cached_prefix import LimitedRequest
from graft.server.engine.vllm.openai import VllmOpenAIBackend
from graft.server.operations.metrics import Metrics, RequestMeter
from tests.server.engine.making import peft_logprobs

TOLERANCE = 1e-4
LENGTHS = (1, 1, 2, 3, 5, 8, 8, 1)
_numbers = itertools.count()


def some_ids(length: int, seed: str) -> list[int]:
    """As no other test asks for: what is cached is this test's own."""
    chance = random.Random(f"cached-scoring/{seed}")
    return [chance.randrange(64, 384) for _ in range(length)]


async def scores(
    engine: VllmEngine,
    prompt: Sequence[int],
    continuations: Sequence[Sequence[int]],
    *,
    adapter: EngineAdapter | None = None,
    salt: str | None = None,
) -> list[ContinuationScore]:
    """All at once, as serving asks."""
    calls = (
        engine.score(prompt, each, request_id=f"cached-{next(_numbers)}", adapter=adapter, cache_salt=salt)
        for each in continuations
    )
    return list(await asyncio.gather(*calls))


def logprobs(found: ContinuationScore) -> list[float]:
    return [token.logprob for token in found.tokens]


@pytest.fixture(scope="module")
def model(base: Base) -> Any:
    return AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()


def expected(model: Any, prompt: Sequence[int], continuation: Sequence[int]) -> list[float]:
    ids = [*prompt, *continuation]
    with torch.no_grad():
        rows = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return [float(rows[at - 1, ids[at]]) for at in range(len(prompt), len(ids))]


# Around the ends of blocks of 32 and 128 tokens: there the last token of the prompt is a block's last or first.
@pytest.mark.parametrize("prompt_tokens", [1, 31, 32, 33, 128, 129, 300, 512])
async def test_options_after_one_prompt_are_scored_as_transformers_does(
    engine: VllmEngine, model: Any, prompt_tokens: int
) -> None:
    prompt = some_ids(prompt_tokens, f"prompt/{prompt_tokens}")
    options = [some_ids(length, f"option/{number}") for number, length in enumerate(LENGTHS)]
    for _ in ("first", "again, when all of it is in the cache"):
        for option, found in zip(options, await scores(engine, prompt, options), strict=True):
            assert logprobs(found) == pytest.approx(expected(model, prompt, option), abs=TOLERANCE)
            assert found.num_cached_tokens < prompt_tokens


async def test_a_continuation_of_whole_blocks_is_computed_each_time(engine: VllmEngine, model: Any) -> None:
    prompt, continuation = some_ids(200, "long"), some_ids(300, "long continuation")
    right = expected(model, prompt, continuation)
    first, second = [(await scores(engine, prompt, [continuation]))[0] for _ in range(2)]
    assert first.num_cached_tokens == 0
    assert 128 <= second.num_cached_tokens < 200
    assert logprobs(first) == pytest.approx(right, abs=TOLERANCE)
    assert logprobs(second) == pytest.approx(right, abs=TOLERANCE)


async def test_echo_over_http_says_the_same(engine: VllmEngine, base: Base) -> None:
    prompt, option = some_ids(200, "echo"), some_ids(6, "echo option")
    await scores(engine, prompt, [option])
    found = (await scores(engine, prompt, [option]))[0]
    assert found.num_cached_tokens > 0
    request = OpenAIRequest(
        fields={"prompt": [*prompt, *option], "echo": True, "logprobs": 1, "max_tokens": 0},
        prompts=[Prompt(token_ids=[*prompt, *option], text="is echoed")],
    )
    meter = RequestMeter(Metrics(CollectorRegistry()), tenant="default", entered_at=0.0, charge=lambda **tokens: None)
    backend = VllmOpenAIBackend(lambda: engine, base.name)
    reply = await backend.answer(request, adapter=None, request_id="cached-echo", meter=meter)
    assert reply.body is not None
    echoed = reply.body["choices"][0]["logprobs"]["token_logprobs"]
    assert len(echoed) == len(prompt) + len(option), "an echo has every place, so it reads nothing from the cache"
    assert echoed[-len(option) :] == pytest.approx(logprobs(found), abs=TOLERANCE)


async def test_eight_options_compute_the_prompt_once(engine: VllmEngine) -> None:
    prompt = some_ids(900, "few-shot")
    found = await scores(engine, prompt, [some_ids(8, f"few-shot/{number}") for number in range(8)])
    cached = sorted(score.num_cached_tokens for score in found)
    assert cached[0] == 0
    assert sum(len(prompt) - each for each in cached) <= 1.25 * len(prompt)


async def test_whether_the_likeliest_was_scored_does_not_depend_on_the_cache(engine: VllmEngine, model: Any) -> None:
    prompt = some_ids(150, "greedy")
    with torch.no_grad():
        likeliest = int(model(torch.tensor([prompt])).logits[0, -1].argmax())
    other = (likeliest + 1) % 384
    for _ in range(2):
        found = await scores(engine, prompt, [[likeliest], [other]])
        assert [score.is_greedy for score in found] == [True, False]


async def test_neither_a_tenant_nor_an_adapter_reads_what_another_has_computed(
    engine: VllmEngine, base: Base, adapters: tuple[EngineAdapter, ...]
) -> None:
    prompt, option = some_ids(300, "own"), some_ids(4, "own option")
    adapter = adapters[1]
    await engine.load(adapter)
    try:
        assert (await scores(engine, prompt, [option], salt="left"))[0].num_cached_tokens == 0
        assert (await scores(engine, prompt, [option], salt="right"))[0].num_cached_tokens == 0
        assert (await scores(engine, prompt, [option], salt="left"))[0].num_cached_tokens > 0
        for is_cached in (False, True):
            found = (await scores(engine, prompt, [option], adapter=adapter, salt="left"))[0]
            assert (found.num_cached_tokens > 0) is is_cached
            right = peft_logprobs(base, adapter.path, [*prompt, *option], len(prompt), dtype="float32")
            assert logprobs(found) == pytest.approx(right, abs=TOLERANCE)
    finally:
        await engine.unload(adapter)


def test_more_than_the_limit_from_the_cache_is_an_error_and_no_number() -> None:
    answer = cast(Any, SimpleNamespace(num_cached_tokens=128))
    conversion.check_limit(answer, 128)
    with pytest.raises(EngineError, match=r"128 tokens .* 127 was the limit"):
        conversion.check_limit(answer, 127)


def test_rows_that_vllm_leaves_out_are_those_of_the_cached_tokens() -> None:
    rows = [None, *({token: SimpleNamespace(rank=1, logprob=-float(token))} for token in (7, 8, 9))]
    answer = cast(Any, SimpleNamespace(prompt_logprobs=rows, num_cached_tokens=2))
    found = conversion.score(answer, [1, 2, 3, 4, 8, 9], 4, lambda token_id: b"")
    assert logprobs(found) == [-8.0, -9.0]
    answer.prompt_logprobs = rows[:2]
    with pytest.raises(EngineError, match="without the prompt's log-probabilities"):
        conversion.score(answer, [1, 2, 3, 4, 8, 9], 4, lambda token_id: b"")


def test_a_limited_request_is_another_one_in_its_length_alone() -> None:
    request = SimpleNamespace(num_tokens=10, block_hashes=["a"], request_id="r")
    assert [LimitedRequest(request, limit).num_tokens for limit in (0, 3, 9, 20)] == [1, 4, 10, 10]
    assert LimitedRequest(request, 3).block_hashes is request.block_hashes
