"""What vLLM's streams lose of several choices, put back where they are metered."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from graft.server.engine.vllm.metered import MeteredEngine


class _Meter:
    def read(self, prompt: int, *, num_tokens: int, num_cached: int) -> None: ...
    def made(self, prompt: int, choice: int, num_tokens: int) -> None: ...
    def ended(self, prompt: int, choice: int) -> None: ...


def step(*choices: int, logprobs: list[Any] | None) -> SimpleNamespace:
    outputs = [SimpleNamespace(index=index, token_ids=[1], finish_reason=None) for index in choices]
    return SimpleNamespace(num_cached_tokens=0, prompt_token_ids=[3, 4], outputs=outputs, prompt_logprobs=logprobs)


async def prompts_of(*steps: SimpleNamespace) -> list[Any]:
    """The prompt's log-probabilities as vLLM's serving classes see them with each step."""

    async def generate(*args: object) -> AsyncGenerator[SimpleNamespace, None]:
        for one in steps:
            yield one

    engine = MeteredEngine(cast(AsyncLLM, SimpleNamespace(generate=generate)))
    with engine.metered(_Meter()):
        stream = engine.generate([3, 4], SamplingParams(output_kind=RequestOutputKind.DELTA), "id")
    return [output.prompt_logprobs async for output in stream]


async def test_every_choice_has_the_prompts_log_probabilities() -> None:
    """vLLM merges the second step of choice 0, whose own are taken already, with the first of choices 1 and 2."""
    found = [None, {4: 0.5}]
    assert await prompts_of(step(0, logprobs=found), step(0, 1, 2, logprobs=[])) == [found, found]
    assert await prompts_of(step(0, logprobs=None), step(0, 1, logprobs=None)) == [None, None]
