"""The engine as vLLM's serving classes see it: what it makes for a request is counted where it is made.

So streams whose caller left, several prompts in one request and answers that nobody got count as all others do, and
every prompt of a request can be ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from graft.server.engine.openai import Meter


@dataclass(kw_only=True)
class Metered:
    """One request: its meter, the engine's ids of its prompts, and whether the engine has answered anything.

    `only_prompt`: what comes after is thrown away. `cached`: how many tokens of each prompt were in the cache before.
    `num_virtual_tokens` stand before each prompt: they are metered and not seen by vLLM's classes.
    """

    meter: Meter
    only_prompt: bool = False
    num_virtual_tokens: int = 0
    ids: list[str] = field(default_factory=list)
    has_begun: bool = False
    cached: dict[int, int] = field(default_factory=dict)

    def read(self, prompt: int, output: Any) -> None:
        self.has_begun = True
        num_cached = self.cached.setdefault(prompt, output.num_cached_tokens or 0)
        self.meter.read(prompt, num_tokens=len(output.prompt_token_ids or ()), num_cached=num_cached)
        if self.num_virtual_tokens:
            output.prompt_token_ids = output.prompt_token_ids[self.num_virtual_tokens :]
            output.prompt_logprobs = output.prompt_logprobs and output.prompt_logprobs[self.num_virtual_tokens :]

    def made(self, prompt: int, choice: Any, num_tokens: int) -> None:
        if not self.only_prompt:
            self.meter.made(prompt, choice.index, num_tokens)
        if choice.finish_reason is not None:
            self.meter.ended(prompt, choice.index)


class MeteredEngine:
    """Everything of `AsyncLLM`, with `generate` under the meter of the request that it is called for."""

    def __init__(self, llm: AsyncLLM) -> None:
        self._llm = llm
        self._request: ContextVar[Metered] = ContextVar("request")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    @contextlib.contextmanager
    def metered(self, meter: Meter, *, only_prompt: bool = False, num_virtual_tokens: int = 0) -> Iterator[Metered]:
        """What `generate` is called for in this block belongs to one request."""
        request = Metered(meter=meter, only_prompt=only_prompt, num_virtual_tokens=num_virtual_tokens)
        token = self._request.set(request)
        try:
            yield self._request.get()
        finally:
            self._request.reset(token)

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[Any, None]:
        request = self._request.get()
        request.ids.append(request_id)
        number = len(request.ids) - 1
        if sampling_params.output_kind is not RequestOutputKind.FINAL_ONLY:
            stream = self._llm.generate(prompt, sampling_params, request_id, **options)
            return _each(stream, request, number)
        # Each step is looked at, so that what was made counts also where nobody waits for the end.
        sampling_params.output_kind = RequestOutputKind.CUMULATIVE
        return _last(self._llm.generate(prompt, sampling_params, request_id, **options), request, number)


async def _each(stream: AsyncGenerator[Any, None], request: Metered, number: int) -> AsyncGenerator[Any, None]:
    """Each step, with the prompt's log-probabilities: vLLM loses those of a choice that begins after the first."""
    prompt_logprobs: Any = None
    async with contextlib.aclosing(stream):
        async for output in stream:
            request.read(number, output)
            prompt_logprobs = prompt_logprobs or output.prompt_logprobs
            output.prompt_logprobs = prompt_logprobs
            for choice in output.outputs:
                request.made(number, choice, len(choice.token_ids))
            yield output


async def _last(stream: AsyncGenerator[Any, None], request: Metered, number: int) -> AsyncGenerator[Any, None]:
    """The finished output, with every choice as it was at its end."""
    choices: dict[int, Any] = {}
    counts: dict[int, int] = {}  # `token_ids` may be the engine's own list, which grows
    async with contextlib.aclosing(stream):
        async for output in stream:
            request.read(number, output)
            for choice in output.outputs:
                num_tokens = len(choice.token_ids)
                request.made(number, choice, num_tokens - counts.get(choice.index, 0))
                choices[choice.index], counts[choice.index] = choice, num_tokens
            if output.finished:
                output.outputs = [choices[index] for index in sorted(choices)]
                yield output
