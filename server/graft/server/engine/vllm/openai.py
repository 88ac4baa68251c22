"""vLLM's own OpenAI serving classes over the engine that runs now.

They bring structured output, log-probabilities, `n` and usage; requests come checked and tokenized. What they get wrong
is put right here: an error in a stream is an error, what is null is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from graft.server.engine.engine import EngineAdapter, EngineDied, EngineError, InvalidRequest
from graft.server.engine.openai import Meter, OpenAIRequest, Reply
from graft.server.engine.schema.structured_outputs import structure_of, with_grammar
from graft.server.engine.tools.enforced import calls_structure
from graft.server.engine.tools.families import Parsers
from graft.server.engine.tools.replies import CallsInReply
from graft.server.engine.tools.tools import Calling
from graft.server.engine.vllm import conversion
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.logprobs import Offsets
from graft.server.engine.vllm.metered import Metered, MeteredEngine
from graft.server.engine.vllm.requests import Chat, Completion, as_vllm_means
from graft.server.engine.vllm.serving import ChatServing, CompletionServing
from graft.server.engine.vllm.soft_prompts import num_virtual_tokens

_log = logging.getLogger(__name__)
# With these vLLM's messages of a refusal go on: "(parameter=n, value=9)".
_VALUES = re.compile(r" \(parameter=.*\)\Z", re.DOTALL)
_ONE_TURN = [{"role": "user", "content": ""}]
_MEANT_NULLS = frozenset({"content", "finish_reason", "logprobs", "refusal", "usage"})


class VllmOpenAIBackend:
    """Chat and text completions. `current` gives the running engine or raises `EngineDied`."""

    def __init__(self, current: Callable[[], VllmEngine], base_name: str, parsers: Parsers | None = None) -> None:
        self._current = current
        self._base_name = base_name
        self._parsers = parsers or Parsers()
        self._classes: _ServingClasses | None = None

    async def answer(
        self,
        request: OpenAIRequest,
        *,
        adapter: EngineAdapter | None,
        request_id: str,
        meter: Meter,
        cache_salt: str | None = None,
    ) -> Reply:
        return await self._over_current_engine().answer(request, adapter, request_id, meter, cache_salt)

    def _over_current_engine(self) -> _ServingClasses:
        engine = self._current()
        if self._classes is None or self._classes.engine is not engine:
            self._classes = _ServingClasses(engine, self._base_name, self._parsers)
        return self._classes


class _ServingClasses:
    """vLLM's serving objects keep the engine that they were made with, so each engine gets its own."""

    def __init__(self, engine: VllmEngine, base_name: str, parsers: Parsers) -> None:
        self.engine = engine
        self._llm = MeteredEngine(engine.llm)
        self._base_name = base_name
        path = BaseModelPath(name=base_name, model_path=engine.llm.model_config.model)
        self._models = OpenAIServingModels(engine.llm, [path])
        self._num_leases: dict[str, int] = {}
        self._parsers = parsers
        self._stop_ids = _stop_ids(engine)
        self._chats: dict[Parsers, ChatServing] = {}
        self._completion = CompletionServing(engine, self._llm, self._models)

    async def answer(
        self,
        request: OpenAIRequest,
        adapter: EngineAdapter | None,
        request_id: str,
        meter: Meter,
        cache_salt: str | None,
    ) -> Reply:
        create: Callable[[Any], Awaitable[Any]] = self._completion.create_completion
        if request.is_chat:
            create = self._chat(request).create_chat_completion
        num_virtual = num_virtual_tokens(adapter)
        fields = as_vllm_means({**await self._with_grammar(request, num_virtual), **self._for_parsers(request)})
        only_prompt = fields.get("max_tokens") == 0
        metered = self._llm.metered(meter, only_prompt=only_prompt, num_virtual_tokens=num_virtual)
        with self._known(adapter) as model, metered as running, conversion.engine_errors():
            named = {**fields, "model": model, "request_id": request_id}
            asked = _parse(Chat if request.is_chat else Completion, named).of(
                request.prompts, self.engine.soft_prompts, adapter=adapter, cache_salt=cache_salt
            )
            try:
                answer = await create(asked)
                _go_on_cancelling()
            except BaseException:
                await self._abort(running)
                raise
        if isinstance(answer, ErrorResponse):
            raise self._as_error(answer.error.code, answer.error.message, answer.error.param)
        public = Public(only_prompt=only_prompt, cached=running.cached, num_virtual=num_virtual * len(request.prompts))
        calls = CallsInReply() if self._reads_calls(request) else None
        if isinstance(answer, BaseModel):
            body = public(answer.model_dump(mode="json"))
            return Reply(body=calls.body(body) if calls else body)
        frames = self._frames(answer, public, running)
        return Reply(frames=calls.frames(frames) if calls else frames)

    def _chat(self, request: OpenAIRequest) -> ChatServing:
        """With the parsers that have something to read: what follows a grammar is neither reasoning nor a form else."""
        use = request.tools
        wants_calls = use is not None and use.calling is not Calling.NONE and not use.is_enforced
        is_free = structure_of(request.fields) is None and not (use and use.calling is Calling.REQUIRED)
        parsers = Parsers(
            tool=self._parsers.tool if wants_calls else None,
            reasoning=self._parsers.reasoning if is_free else None,
        )
        if parsers not in self._chats:
            self._chats[parsers] = ChatServing(self.engine, self._llm, self._models, parsers)
        return self._chats[parsers]

    def _reads_calls(self, request: OpenAIRequest) -> bool:
        """Whether calls stand in the text in the form that is read here."""
        use = request.tools
        return use is not None and use.calling is not Calling.NONE and (use.is_enforced or self._parsers.tool is None)

    def _for_parsers(self, request: OpenAIRequest) -> dict[str, Any]:
        """Fields that a family's parser looks at. The turns are rendered already; vLLM wants to see one."""
        if not request.is_chat:
            return {}
        fields: dict[str, Any] = {"messages": _ONE_TURN, "chat_template_kwargs": dict(request.variables) or None}
        use = request.tools
        if use is not None and not self._reads_calls(request) and use.calling is Calling.AUTO:
            listed = [tool.listed() for tool in use.tools]
            fields |= {"tools": listed, "tool_choice": "auto", "parallel_tool_calls": not use.at_most_one}
        return fields

    async def _with_grammar(self, request: OpenAIRequest, num_virtual: int) -> dict[str, Any]:
        """The fields with the form that they ask for as a grammar. Raises `InvalidRequest`."""
        longest = num_virtual + max(len(prompt.token_ids) for prompt in request.prompts)
        return await asyncio.to_thread(
            with_grammar,
            request.fields,
            calls_structure(request.tools, self._stop_ids) if request.tools and request.tools.is_enforced else None,
            left_tokens=self.engine.max_model_tokens - longest,
            characters_per_token=self.engine.characters_per_token,
        )

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
    ) -> AsyncGenerator[dict[str, Any], None]:
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


def _stop_ids(engine: VllmEngine) -> tuple[int, ...]:
    """What ends a reply beside the tokenizer's end token, which grammars know by themselves."""
    ids = engine.llm.model_config.try_get_generation_config().get("eos_token_id")
    end = engine.llm.renderer.get_tokenizer().eos_token_id
    return tuple(one for one in (ids if isinstance(ids, list) else [ids]) if one not in (None, end))


def _go_on_cancelling() -> None:
    """vLLM's handlers answer a cancellation with an error of their own ("Client disconnected")."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _parse(kind: type[Chat] | type[Completion], body: Mapping[str, Any]) -> Chat | Completion:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else None
        raise InvalidRequest(f"{field or 'the request'}: {first['msg']}", field=field) from error


class Public:
    """One request's answer, or its chunks, as OpenAI's types have them.

    `only_prompt`: nothing was asked for beside the prompt, so the one token that vLLM generates does not count.
    `cached`: tokens of each prompt that were in the cache before; vLLM tells those of the choice that ended last.
    `num_virtual`: tokens before the prompts, which vLLM's classes do not see; they were read and count as read.
    """

    def __init__(self, *, only_prompt: bool, cached: Mapping[int, int], num_virtual: int = 0) -> None:
        self._only_prompt = only_prompt
        self._num_virtual = num_virtual
        self._cached = cached
        self._offsets: dict[int, Offsets] = {}

    def __call__(self, answer: dict[str, Any]) -> dict[str, Any]:
        for choice in answer.get("choices", ()):
            told = choice.get("message") or choice.get("delta") or {}
            if told.get("reasoning") is not None:
                # Two names are in use for it.
                told["reasoning_content"] = told["reasoning"]
            logprobs = choice.get("logprobs") or {}
            if "text_offset" in logprobs:
                offsets = self._offsets.setdefault(choice["index"], Offsets())
                logprobs["text_offset"] = offsets.of(logprobs["tokens"])
        usage = answer.get("usage")
        if usage and self._num_virtual:
            usage["prompt_tokens"] += self._num_virtual
            usage["total_tokens"] += self._num_virtual
            usage["prompt_tokens_details"] = (usage.get("prompt_tokens_details") or {}) | {
                "virtual_tokens": self._num_virtual
            }
        if usage and self._only_prompt:
            usage |= {"completion_tokens": 0, "total_tokens": usage["prompt_tokens"]}
        if usage and usage.get("prompt_tokens_details"):
            usage["prompt_tokens_details"]["cached_tokens"] = sum(self._cached.values())
        said: dict[str, Any] = _without_nulls(answer)
        return said


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None or key in _MEANT_NULLS}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value
