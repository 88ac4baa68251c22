"""An engine, a tokenizer and an OpenAI backend that do as they are told, for faults that a real engine rarely has."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.adapters.base.base import Base
from graft.adapters.chat.shown import TemplateReads
from graft.adapters.form import ServingForm
from graft.server.engine.engine import (
    ContinuationScore,
    Delta,
    EngineAdapter,
    EngineDied,
    EngineError,
    EngineInfo,
    HeadOutputs,
    InvalidRequest,
    LoadFailed,
    Sampling,
    TokenLogprob,
)
from graft.server.engine.openai import Meter, OpenAIBackend, OpenAIRequest, Reply
from graft.server.engine.supervisor import Supervisor
from graft.server.engine.text import Tokenizer
from graft.server.settings.settings import Settings

MAX_MODEL_TOKENS = 1000
_pids = itertools.count(1)


@dataclass(kw_only=True)
class Script:
    """What the engine does; tests change it while the server runs."""

    token_seconds: float = 0.001
    load_seconds: float = 0.0
    # Characters behind the text of each token.
    padding: int = 0
    hang: bool = False
    start_allowed: asyncio.Event = field(default_factory=asyncio.Event)
    load_error: str | None = None
    # Stop after so many tokens without saying why.
    break_after: int | None = None
    crash: Exception | None = None
    # Fails each answer of the adapter with this digest at its last token.
    broken_digest: str | None = None
    # The log-probability of a scored token.
    logprob: Callable[[EngineAdapter | None, int], float] = lambda adapter, token_id: -0.5
    num_scored: int = 0
    salts: list[str | None] = field(default_factory=list)
    # What the engine was told beforehand: digests, and the files that it could see.
    prepared: list[tuple[str, set[str]]] = field(default_factory=list)
    active: set[str] = field(default_factory=set)
    num_started: int = 0
    engines: list[ScriptedEngine] = field(default_factory=list)


class ScriptedEngine:
    """Token k of an answer is `k`; its text is the first letters of who answers."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.pid = next(_pids)
        self.loaded_adapters: dict[int, EngineAdapter] = {}
        self.dead = asyncio.Event()
        self._callbacks: list[Callable[[str], None]] = []
        self.closed = False

    def die(self) -> None:
        self.dead.set()
        for callback in self._callbacks:
            callback("its process was ended by the script")

    def on_death(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)

    async def generate(
        self,
        prompt_token_ids: Sequence[int],
        sampling: Sampling,
        *,
        request_id: str,
        adapter: EngineAdapter | None,
        cache_salt: str | None = None,
    ) -> AsyncIterator[Delta]:
        self.script.salts.append(cache_salt)
        if adapter is not None:
            assert self.loaded_adapters.get(adapter.engine_id) == adapter, "asked for an adapter that is not loaded"
        self.script.active.add(request_id)
        self.script.num_started += 1
        who = "base" if adapter is None else adapter.digest.removeprefix("sha256:")[:4]
        text = who + "-" * self.script.padding
        try:
            for index in range(sampling.max_tokens):
                if self.script.break_after is not None and index >= self.script.break_after:
                    return
                await self._token()
                is_broken = adapter is not None and adapter.digest == self.script.broken_digest
                if is_broken and index == sampling.max_tokens - 1:
                    raise EngineError("the script breaks this adapter")
                for choice in range(sampling.num_choices):
                    last = index == sampling.max_tokens - 1
                    yield Delta(choice=choice, text=text, token_ids=(index,), finish_reason="length" if last else None)
        finally:
            self.script.active.discard(request_id)

    async def _token(self) -> None:
        if self.script.crash is not None:
            raise self.script.crash
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self.dead.wait())]
        if not self.script.hang:
            waits.append(asyncio.ensure_future(asyncio.sleep(self.script.token_seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self.dead.is_set():
            raise EngineDied("the engine's process ended while the request ran")

    async def score(
        self,
        prompt_token_ids: Sequence[int],
        continuation_token_ids: Sequence[int],
        *,
        request_id: str,
        adapter: EngineAdapter | None,
        cache_salt: str | None = None,
    ) -> ContinuationScore:
        self.script.salts.append(cache_salt)
        self.script.num_scored += 1
        await self._token()
        tokens = tuple(
            TokenLogprob(token_id=one, token=chr(one), logprob=self.script.logprob(adapter, one))
            for one in continuation_token_ids
        )
        return ContinuationScore(tokens=tokens, is_greedy=True)

    async def classify(
        self, prompt_token_ids: Sequence[int], *, request_id: str, adapter: EngineAdapter, cache_salt: str | None = None
    ) -> HeadOutputs:
        self.script.salts.append(cache_salt)
        assert adapter.head is not None and self.loaded_adapters.get(adapter.engine_id) == adapter
        await self._token()
        return HeadOutputs(logits=tuple(map(float, range(adapter.head.num_labels))), num_cached_tokens=1)

    def prepare(self, digest: str, path: Path) -> None:
        self.script.prepared.append((digest, {file.name for file in path.iterdir()}))

    async def load(self, adapter: EngineAdapter) -> None:
        if self.script.load_error is not None:
            raise LoadFailed(self.script.load_error)
        await asyncio.sleep(self.script.load_seconds)
        self.loaded_adapters[adapter.engine_id] = adapter

    async def unload(self, adapter: EngineAdapter) -> None:
        del self.loaded_adapters[adapter.engine_id]

    async def loaded(self) -> frozenset[int]:
        return frozenset(self.loaded_adapters)

    async def info(self) -> EngineInfo:
        return EngineInfo(
            pid=self.pid,
            engine_version="scripted",
            lora_kernel="scripted",
            max_model_tokens=MAX_MODEL_TOKENS,
            num_slots=2,
            max_rank=16,
            max_labels=8,
        )

    async def canary(self) -> None:
        await self._token()

    async def close(self) -> None:
        self.closed = True
        self.dead.set()


class ScriptedTokenizer:
    """One token per character: its code. `ab` is one token, so that seams can be straddled."""

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for letter in text:
            if letter == "b" and ids and ids[-1] == ord("a") % 40:
                ids[-1] = 39
            else:
                ids.append(ord(letter) % 40)
        return ids

    def encode_continuation(self, text: str) -> list[int]:
        return self.encode(text)

    def encode_marked(self, text: str) -> list[int]:
        return self.encode(text)

    def claimed(self, template: str) -> str:
        return template

    def settled(self, text: str) -> str:
        return text

    def unmarked(self, text: str) -> str:
        return text

    template_variables: frozenset[str] | None = frozenset({"enable_thinking"})

    template_reads = TemplateReads()

    def render_chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
        return self.encode(self.chat_text(messages))

    def chat_text(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        return "|".join(message["content"] for message in messages)

    def encode_answered(self, opened: str, begun: str | None, answer: str, after: str) -> list[int]:
        return self.encode(opened + (begun or "") + answer + after)

    def chat_values(self, messages: Sequence[Mapping[str, str]], **variables: Any) -> dict[str, Any]:
        return {"messages": [dict(message) for message in messages], "add_generation_prompt": True, **variables}

    def encode_rendered(self, text: str) -> list[int]:
        return self.encode(text)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return [str(one) for one in ids]

    def spelled(self, ids: Sequence[int]) -> str:
        return " ".join(self.tokens(ids))

    def finished(self, ids: Sequence[int]) -> str:
        return self.spelled(ids)


class ScriptedBackend:
    """Completions over the scripted engine, shaped like OpenAI's; a chat's have both shapes."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def answer(
        self,
        request: OpenAIRequest,
        *,
        adapter: EngineAdapter | None,
        request_id: str,
        meter: Meter,
        cache_salt: str | None = None,
    ) -> Reply:
        body, num_prompts = request.fields, len(request.prompts)
        sampling = Sampling(max_tokens=body.get("max_tokens", 4), num_choices=request.num_choices)
        stream = self._supervisor.generate([1], sampling, request_id=request_id, adapter=adapter, cache_salt=cache_salt)
        deltas = self._deltas(stream, meter, num_prompts)
        if body.get("stream"):
            options = body.get("stream_options") or {}
            return Reply(frames=self._frames(deltas, request_id, wants_usage=bool(options.get("include_usage"))))
        text = ""
        num_tokens = 0
        try:
            async for delta in deltas:
                text, num_tokens = text + delta.text, num_tokens + 1
        except asyncio.CancelledError:
            raise InvalidRequest("Client disconnected") from None  # as vLLM's plain handlers do
        num_read = sum(len(prompt.token_ids) for prompt in request.prompts)
        usage = {"prompt_tokens": num_read, "completion_tokens": num_tokens, "total_tokens": num_read + num_tokens}
        said = {"text": text, "message": {"role": "assistant", "content": text}}
        choice = {"index": 0, **said, "finish_reason": "length", "logprobs": None}
        return Reply(body=_object(request_id, choices=[choice], usage=usage))

    async def _deltas(
        self, stream: AsyncIterator[Delta], meter: Meter, num_prompts: int
    ) -> AsyncGenerator[Delta, None]:
        async with aclosing(stream):  # type: ignore[type-var]
            async for delta in stream:
                meter.read(0, num_tokens=1, num_cached=0)
                meter.made(0, delta.choice, len(delta.token_ids))
                for prompt in range(num_prompts) if delta.finish_reason is not None else ():
                    meter.ended(prompt, delta.choice)
                yield delta

    async def _frames(
        self, deltas: AsyncIterator[Delta], request_id: str, *, wants_usage: bool
    ) -> AsyncGenerator[dict[str, Any], None]:
        num_tokens = 0
        async for delta in deltas:
            num_tokens += 1
            said = {"text": delta.text, "delta": {"content": delta.text}}
            choice = {"index": delta.choice, **said, "finish_reason": delta.finish_reason}
            yield _object(request_id, choices=[choice])
        if wants_usage:
            usage = {"prompt_tokens": 1, "completion_tokens": num_tokens, "total_tokens": num_tokens + 1}
            yield _object(request_id, choices=[], usage=usage)


def _object(request_id: str, **parts: Any) -> dict[str, Any]:
    return {"id": f"cmpl-{request_id}", "object": "text_completion", "created": 1, "model": "any", **parts}


class ScriptedEngineFactory:
    """Hands out scripted engines, one after the other."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def check(self, settings: Settings, base: Base, form: ServingForm) -> None:
        """A scripted engine serves anything."""

    async def start(self, settings: Settings, base: Base, form: ServingForm, like: EngineInfo | None) -> ScriptedEngine:
        await self._script.start_allowed.wait()
        engine = ScriptedEngine(self._script)
        self._script.engines.append(engine)
        return engine

    async def tokenizer(self, base: Base) -> Tokenizer:
        return ScriptedTokenizer()

    def openai(self, supervisor: Supervisor, settings: Settings, base: Base) -> OpenAIBackend:
        return ScriptedBackend(supervisor)
