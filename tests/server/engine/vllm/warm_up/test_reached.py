"""What a request can ask of the engine's sampling was asked before readiness: every field of vLLM's parameters that
one of the API's fields sets, and every way of counting likeliest tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import pytest
from vllm import SamplingParams

from graft.adapters.base.base import Base
from graft.server.api.http.openai_fields import CHAT, COMPLETIONS
from graft.server.api.limits import MAX_LOGPROBS
from graft.server.engine.engine import Sampling
from graft.server.engine.vllm.conversion import sampling_params, scoring_params
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.requests import Chat, Completion, as_vllm_means
from graft.server.engine.vllm.warm_up.warm_up import warm_up

# A value of each honoured field that says something; None where nothing of it reaches the sampling by itself.
HTTP: Mapping[str, Any] = {
    "allowed_token_ids": [1], "bad_words": ["a"], "chat_template_kwargs": None, "echo": True,
    "frequency_penalty": 0.5, "ignore_eos": True, "include_stop_str_in_output": True, "logit_bias": {"1": 1.0},
    "logprobs": 2, "max_completion_tokens": 3, "max_tokens": 3, "messages": None, "min_p": 0.1, "min_tokens": 1,
    "model": None, "n": 2, "parallel_tool_calls": None, "presence_penalty": 0.5, "prompt": None,
    "reasoning_effort": None, "repetition_penalty": 1.1, "response_format": {"type": "json_object"}, "seed": 1,
    "skip_special_tokens": False, "stop": ["a"], "stop_token_ids": [1], "stream": True, "stream_options": None,
    "structured_outputs": {"regex": "a"}, "temperature": 0.7, "tool_choice": None, "tools": None, "top_k": 3,
    "top_logprobs": None, "top_p": 0.5,
}  # fmt: skip
GRPC: Mapping[str, Any] = {
    "max_tokens": 3, "temperature": 0.7, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "seed": 1, "stop": ("a",),
    "presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty": 1.1, "json_schema": "{}", "regex": "a",
    "options": ("a",), "ignore_eos": True, "num_choices": 2, "logprobs": 2,
}  # fmt: skip
_NOT_THE_SAMPLERS = {"max_tokens", "output_kind", "extra_args"}


def changed(params: SamplingParams, plain: SamplingParams) -> set[str]:
    """Fields of vLLM's parameters that are not the plain ones'."""
    names = [name for name in SamplingParams.__struct_fields__ if not name.startswith("_")]
    return {name for name in names if getattr(params, name) != getattr(plain, name)} - _NOT_THE_SAMPLERS


def over_http() -> Iterator[SamplingParams]:
    for name, value in HTTP.items():
        if value is not None and name in COMPLETIONS.honoured:
            body = {"model": "base", "prompt": "a", **as_vllm_means({name: value})}
            body |= {"logprobs": 1} if name == "echo" else {}
            yield Completion.model_validate(body).to_sampling_params(8, {})
        if value is not None and name in CHAT.honoured and name != "logprobs":
            body = {"model": "base", "messages": [{"role": "user", "content": ""}], **as_vllm_means({name: value})}
            yield Chat.model_validate(body).to_sampling_params(8, {})


def over_grpc() -> Iterator[SamplingParams]:
    for name, value in GRPC.items():
        structure = {"regex": "a"} if name in ("json_schema", "regex", "options") else None
        yield sampling_params(Sampling(**{name: value}), structure)
    yield scoring_params(3)


@pytest.fixture
async def asked(engine: VllmEngine, base: Base, monkeypatch: pytest.MonkeyPatch) -> list[SamplingParams]:
    """The parameters of every request of the warm-up, also where each request is alone, as on a GPU."""
    seen: list[SamplingParams] = []
    generate = engine.llm.generate

    def recorded(prompt: Any, params: SamplingParams, *more: Any, **options: Any) -> Any:
        seen.append(params.clone())
        return generate(prompt, params, *more, **options)

    monkeypatch.setattr(engine.llm, "generate", recorded)
    await warm_up(engine, base, each_alone=True)
    return seen


def test_every_field_has_a_row() -> None:
    assert CHAT.honoured | COMPLETIONS.honoured == HTTP.keys()
    assert {one.name for one in fields(Sampling)} == GRPC.keys()


async def test_what_can_be_reached_was_asked_before_readiness(asked: list[SamplingParams]) -> None:
    plain = SamplingParams(temperature=1.0)
    reached = set().union(*(changed(params, plain) for params in (*over_http(), *over_grpc())))
    warmed = set().union(*(changed(params, plain) for params in asked))
    assert {"logprobs", "prompt_logprobs", "structured_outputs", "top_p", "top_k", "min_p", "seed"} <= reached
    assert reached <= warmed
    for side in ("logprobs", "prompt_logprobs"):
        counts = {getattr(params, side) for params in asked} - {None}
        assert {kernel(count) for count in range(MAX_LOGPROBS + 1)} <= {kernel(count) for count in counts}, side


def kernel(num_likeliest: int) -> tuple[int, bool, bool]:
    """What Triton compiles vLLM's kernel of log-probabilities for: a block of columns (a power of two, constant), and
    a number of columns that is one, or a multiple of sixteen.
    """
    columns = num_likeliest + 1
    return 1 << (columns - 1).bit_length(), columns == 1, columns % 16 == 0
