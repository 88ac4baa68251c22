"""vLLM's OpenAI requests as Graft means them: what vLLM refuses of OpenAI's ranges, and of sampling beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, PrivateAttr
from vllm import SamplingParams
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from graft.server.engine.engine import EngineAdapter, Prompt
from graft.server.engine.vllm.conversion import likeliest_only, usable_seed, with_choices
from graft.server.engine.vllm.soft_prompts import Input, SoftPrompts


class _Tokenized(BaseModel):
    """The prompts of a request, which both fronts tokenize before the engine sees it."""

    _inputs: Sequence[Input] = PrivateAttr(())

    def of(
        self,
        prompts: Sequence[Prompt],
        soft_prompts: SoftPrompts,
        *,
        adapter: EngineAdapter | None,
        cache_salt: str | None,
    ) -> Self:
        self._inputs = [
            soft_prompts.input(prompt.token_ids, text=prompt.text, adapter=adapter, cache_salt=cache_salt)
            for prompt in prompts
        ]
        return self

    def inputs(self) -> list[Input]:
        return list(self._inputs)


class Chat(_Tokenized, ChatCompletionRequest):
    """A chat request. How many stop strings there may be is the fronts' to say."""

    stop: str | list[str] | None = None

    def to_sampling_params(self, max_tokens: int, default_sampling_params: dict[str, Any]) -> SamplingParams:
        one = self.model_copy(update={"n": 1})
        return with_choices(
            ChatCompletionRequest.to_sampling_params(one, max_tokens, default_sampling_params), self.n or 1
        )


class Completion(_Tokenized, CompletionRequest):
    """A request to go on with texts."""

    stop: str | list[str] | None = None

    def to_sampling_params(
        self, max_tokens: int, default_sampling_params: dict[str, Any] | None = None
    ) -> SamplingParams:
        one = self.model_copy(update={"n": 1})
        return with_choices(CompletionRequest.to_sampling_params(one, max_tokens, default_sampling_params), self.n)


def as_vllm_means(body: dict[str, Any]) -> dict[str, Any]:
    """The fields with OpenAI's meaning, written so that vLLM takes them."""
    if "top_p" in body:
        top_p, top_k = likeliest_only(float(body["top_p"]), int(body.get("top_k") or 0))
        body = {**body, "top_p": top_p, "top_k": top_k}
    if "seed" in body:
        body = {**body, "seed": usable_seed(int(body["seed"]))}
    return body
