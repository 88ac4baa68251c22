"""vLLM's own OpenAI serving classes over the engine that runs now.

They bring structured output, log-probabilities, `n` and usage; requests come checked and tokenized (`api`). What they
get wrong is put right here: the model is named as the caller named it, an error in a stream is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from graft.server.engine.engine import EngineAdapter, EngineDied, EngineError, InvalidRequest, Prompt
from graft.server.engine.schema.structured_outputs import with_grammar
from graft.server.engine.vllm import conversion
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.logprobs import Offsets
from graft.server.engine.vllm.metered import Metered, MeteredEngine, TokenMeter
from graft.server.engine.vllm.requests import Chat, Completion, as_vllm_means
from graft.server.engine.vllm.serving import ChatServing, CompletionServing

Request = TypeVar("Request", Chat, Completion)
_log = logging.getLogger(__name__)
# With these vLLM's messages of a refusal go on: "(parameter=n, value=9)".
_VALUES = re.compile(r" \(parameter=.*\)\Z", re.DOTALL)
_MEANT_NULLS = frozenset({"content", "finish_reason", "logprobs", "refusal", "usage"})


class Ticket(Protocol):
    """What this needs to know of an admitted request (see `serving.Ticket`)."""

    @property
    def model(self) -> str: ...
    @property
    def engine_adapter(self) -> EngineAdapter | None: ...
    @property
    def request_id(self) -> str: ...
    @property
    def engine_id(self) -> str: ...
    @property
    def meter(self) -> TokenMeter: ...
    @property
    def answerer(self) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class OpenAIReply:
    """An answer: `body`, or `frames` (decoded chunks) where a stream was asked for."""

    status: int = 200
    body: dict[str, Any] | None = None
    frames: AsyncIterator[dict[str, Any] | str] | None = None


class OpenAIBackend:
    """Chat and text completions. `current` gives the running engine or raises `EngineDied`."""

    def __init__(self, current: Callable[[], VllmEngine], base_name: str) -> None:
        self._current = current
        self._base_name = base_name
        self._classes: _ServingClasses | None = None

    async def chat(self, body: dict[str, Any], prompts: Sequence[Prompt], ticket: Ticket) -> OpenAIReply:
        """`POST /v1/chat/completions` of checked fields. Raises `InvalidRequest` with the field, `EngineDied`."""
        classes = self._over_current_engine()
        body = await classes.with_grammar(body, prompts)
        return await classes.answer(Chat, classes.chat.create_chat_completion, body, prompts, ticket)

    async def completion(self, body: dict[str, Any], prompts: Sequence[Prompt], ticket: Ticket) -> OpenAIReply:
        """`POST /v1/completions` of checked fields. Raises `InvalidRequest` with the field, `EngineDied`."""
        classes = self._over_current_engine()
        body = await classes.with_grammar(body, prompts)
        return await classes.answer(Completion, classes.completion.create_completion, body, prompts, ticket)

    def _over_current_engine(self) -> _ServingClasses:
        engine = self._current()
        if self._classes is None or self._classes.engine is not engine:
            self._classes = _ServingClasses(engine, self._base_name)
        return self._classes


class _ServingClasses:
    """vLLM's serving objects keep the engine that they were made with, so each engine gets its own."""

    def __init__(self, engine: VllmEngine, base_name: str) -> None:
        self.engine = engine
        self._llm = MeteredEngine(engine.llm)
        self._base_name = base_name
        path = BaseModelPath(name=base_name, model_path=engine.llm.model_config.model)
        self._models = OpenAIServingModels(engine.llm, [path])
        self._num_leases: dict[str, int] = {}
        self.chat = ChatServing(engine, self._llm, self._models)
        self.completion = CompletionServing(engine, self._llm, self._models)

    async def with_grammar(self, body: dict[str, Any], prompts: Sequence[Prompt]) -> dict[str, Any]:
        """The body with the form that it asks for as a grammar. Raises `InvalidRequest`."""
        return await asyncio.to_thread(
            with_grammar,
            body,
            left_tokens=self.engine.max_model_tokens - max(len(prompt.token_ids) for prompt in prompts),
            characters_per_token=self.engine.characters_per_token,
        )

    async def answer(
        self,
        kind: type[Chat] | type[Completion],
        create: Callable[[Any, None], Awaitable[Any]],
        body: dict[str, Any],
        prompts: Sequence[Prompt],
        ticket: Ticket,
    ) -> OpenAIReply:
        only_prompt = body.get("max_tokens") == 0
        metered = self._llm.metered(ticket.meter, only_prompt=only_prompt)
        with self._known(ticket.engine_adapter) as model, metered as running, conversion.engine_errors():
            named = {**as_vllm_means(body), "model": model, "request_id": ticket.engine_id}
            request = _parse(kind, named).of(prompts)
            try:
                answer = await create(request, None)
                _go_on_cancelling()
            except BaseException:
                await self._abort(running)
                raise
        if isinstance(answer, ErrorResponse):
            raise self._as_error(answer.error.code, answer.error.message, answer.error.param)
        public = Public(ticket, only_prompt=only_prompt)
        if isinstance(answer, BaseModel):
            return OpenAIReply(body=public(answer.model_dump(mode="json")))
        return OpenAIReply(frames=self._frames(answer, public, running))

    @contextlib.contextmanager
    def _known(self, adapter: EngineAdapter | None) -> Iterator[str]:
        """The name under which vLLM's classes find the leased adapter, for as long as they look it up."""
        request = self.engine.lora_request(adapter)
        if request is None:
            yield self._base_name
            return
        name = request.lora_name
        self._models.lora_requests[name] = request
        self._num_leases[name] = self._num_leases.get(name, 0) + 1
        try:
            yield name
        finally:
            self._num_leases[name] -= 1
            if not self._num_leases[name]:
                del self._num_leases[name], self._models.lora_requests[name]

    async def _frames(
        self, events: AsyncIterator[str], public: Public, running: Metered
    ) -> AsyncIterator[dict[str, Any] | str]:
        try:
            with conversion.engine_errors():
                async for event in events:
                    data = event.removeprefix("data: ").strip()
                    if data and data != "[DONE]":
                        yield self._frame(json.loads(data), public, running.has_begun)
        finally:
            await self._abort(running)

    def _frame(self, frame: dict[str, Any], public: Public, has_begun: bool) -> dict[str, Any]:
        if "error" in frame:
            error = frame["error"]
            # What has been taken and begun was no bad request, whatever vLLM makes of a ValueError.
            code = None if has_begun else error.get("code")
            raise self._as_error(code, error.get("message", ""), error.get("param"))
        if any(choice.get("finish_reason") in ("abort", "error") for choice in frame.get("choices", ())):
            raise EngineDied("the engine ended the request early; try again")
        return public(frame)

    def _as_error(self, code: object, message: str, field: str | None) -> EngineError:
        if self.engine.gone:
            return EngineDied("the engine's process ended while the request ran; it is being replaced, try again")
        if code in (400, 404, 422):
            return InvalidRequest(_VALUES.sub("", message), field=field)
        # What an exception says is no message; vLLM has logged where it came from.
        _log.error("the engine failed on a request: %s", message)
        return EngineError(conversion.FAILED)

    async def _abort(self, running: Metered) -> None:
        """End what may still run of a request in the engine; one that has ended is not there any more."""
        if running.ids and not self.engine.gone:
            await self._llm.abort(running.ids)


def _go_on_cancelling() -> None:
    """vLLM's handlers answer a cancellation with an error of their own ("Client disconnected")."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _parse(kind: type[Request], body: Mapping[str, Any]) -> Request:
    try:
        request: Request = kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else None
        raise InvalidRequest(f"{field or 'the request'}: {first['msg']}", field=field) from error
    return request


class Public:
    """One request's answer, or its chunks, as OpenAI's types have them: with the model as asked for and who answered.

    `only_prompt`: nothing was asked for beside the prompt, so the one token that vLLM generates does not count.
    """

    def __init__(self, ticket: Ticket, *, only_prompt: bool) -> None:
        facts = ticket.answerer
        self._named = {"model": ticket.model, "system_fingerprint": facts.version_digest or facts.base_digest}
        self._ids = (ticket.engine_id, ticket.request_id)
        self._only_prompt = only_prompt
        self._offsets: dict[int, Offsets] = {}

    def __call__(self, answer: dict[str, Any]) -> dict[str, Any]:
        for choice in answer.get("choices", ()):
            logprobs = choice.get("logprobs") or {}
            if "text_offset" in logprobs:
                offsets = self._offsets.setdefault(choice["index"], Offsets())
                logprobs["text_offset"] = offsets.of(logprobs["tokens"])
        usage = answer.get("usage")
        if usage and self._only_prompt:
            usage |= {"completion_tokens": 0, "total_tokens": usage["prompt_tokens"]}
        named = {"id": str(answer["id"]).replace(*self._ids)} if "id" in answer else {}
        return {**_without_nulls(answer), **self._named, **named}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None or key in _MEANT_NULLS}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value
