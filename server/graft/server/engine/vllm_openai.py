"""vLLM's own OpenAI serving classes over the engine that runs now.

They bring tools, structured output, log-probabilities, `n` and usage. What they get wrong is put right here: unknown
fields are refused, the model is named as the caller named it, an error in a stream is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.renderers.online_renderer import OnlineRenderer

from graft.server.engine import vllm_values as values
from graft.server.engine.engine import EngineAdapter, EngineDied, EngineError, InvalidRequest
from graft.server.engine.openai_fields import CHAT_FIELDS, COMPLETION_FIELDS, check_fields, check_tools
from graft.server.engine.vllm_engine import VllmEngine

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

    async def chat(self, body: dict[str, Any], ticket: Ticket, headers: Mapping[str, str]) -> OpenAIReply:
        """`POST /v1/chat/completions`. Raises `InvalidRequest` with the field, `EngineDied`."""
        check_fields(body, CHAT_FIELDS)
        check_tools(body)
        classes = self._over_current_engine()
        return await classes.answer(ChatCompletionRequest, classes.chat.create_chat_completion, body, ticket)

    async def completion(self, body: dict[str, Any], ticket: Ticket, headers: Mapping[str, str]) -> OpenAIReply:
        """`POST /v1/completions`. Raises `InvalidRequest` with the field, `EngineDied`."""
        check_fields(body, COMPLETION_FIELDS)
        classes = self._over_current_engine()
        return await classes.answer(CompletionRequest, classes.completion.create_completion, body, ticket)

    def _over_current_engine(self) -> _ServingClasses:
        engine = self._current()
        if self._classes is None or self._classes.engine is not engine:
            self._classes = _ServingClasses(engine, self._base_name)
        return self._classes


class _ServingClasses:
    """vLLM's serving objects keep the engine that they were made with, so each engine gets its own."""

    def __init__(self, engine: VllmEngine, base_name: str) -> None:
        self.engine = engine
        llm = engine.llm
        self._base_name = base_name
        path = BaseModelPath(name=base_name, model_path=llm.model_config.model)
        self._models = OpenAIServingModels(llm, [path])
        self._num_leases: dict[str, int] = {}
        renderer = OnlineRenderer(
            llm.model_config,
            llm.renderer,
            request_logger=None,
            chat_template=None,
            chat_template_content_format="auto",
        )
        self.chat = OpenAIServingChat(
            llm,
            self._models,
            "assistant",
            online_renderer=renderer,
            request_logger=None,
            chat_template=None,
            chat_template_content_format="auto",
            enable_prompt_tokens_details=True,
        )
        self.completion = OpenAIServingCompletion(
            llm, self._models, online_renderer=renderer, request_logger=None, enable_prompt_tokens_details=True
        )

    async def answer(
        self,
        kind: type[BaseModel],
        create: Callable[[Any, None], Awaitable[Any]],
        body: Mapping[str, Any],
        ticket: Ticket,
    ) -> OpenAIReply:
        with self._known(ticket.engine_adapter) as model, values.engine_errors():
            request = _parse(kind, {**body, "model": model, "request_id": ticket.request_id})
            try:
                answer = await create(request, None)
                _go_on_cancelling()
            except BaseException:
                await self._abort(ticket)
                raise
        if isinstance(answer, ErrorResponse):
            raise self._as_error(answer.error.code, answer.error.message, answer.error.param)
        if isinstance(answer, BaseModel):
            return OpenAIReply(body=_public(answer.model_dump(mode="json"), ticket))
        return OpenAIReply(frames=self._frames(answer, ticket))

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

    async def _frames(self, events: AsyncIterator[str], ticket: Ticket) -> AsyncIterator[dict[str, Any] | str]:
        try:
            with values.engine_errors():
                async for event in events:
                    data = event.removeprefix("data: ").strip()
                    if data and data != "[DONE]":
                        yield self._frame(json.loads(data), ticket)
        finally:
            await self._abort(ticket)

    def _frame(self, frame: dict[str, Any], ticket: Ticket) -> dict[str, Any]:
        if "error" in frame:
            error = frame["error"]
            raise self._as_error(error.get("code"), error.get("message", ""), error.get("param"))
        if any(choice.get("finish_reason") in ("abort", "error") for choice in frame.get("choices", ())):
            raise EngineDied("the engine ended the request early; try again")
        return _public(frame, ticket)

    def _as_error(self, code: object, message: str, field: str | None) -> EngineError:
        if self.engine.gone:
            return EngineDied("the engine's process ended while the request ran; it is being replaced, try again")
        if code in (400, 404, 422):
            return InvalidRequest(message, field=field)
        return EngineError(message)

    async def _abort(self, ticket: Ticket) -> None:
        """End what may still run of a request in the engine; one that has ended is not there any more."""
        if not self.engine.gone:
            ids = [f"chatcmpl-{ticket.request_id}", f"cmpl-{ticket.request_id}-0"]
            await self.engine.llm.abort(ids)


def _go_on_cancelling() -> None:
    """vLLM's handlers answer a cancellation with an error of their own ("Client disconnected")."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _parse(kind: type[BaseModel], body: Mapping[str, Any]) -> BaseModel:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if isinstance(part, str | int)) or None
        raise InvalidRequest(f"{field or 'the request'}: {first['msg']}", field=field) from error


def _public(answer: dict[str, Any], ticket: Ticket) -> dict[str, Any]:
    """The answer as OpenAI's types have it, with the model as asked for and the version that answered."""
    facts = ticket.answerer
    named = {"model": ticket.model, "system_fingerprint": facts.version_digest or facts.base_digest}
    return {**_without_nulls(answer), **named}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None or key in _MEANT_NULLS}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value
