"""`/v1/chat/completions` and `/v1/completions`: admission, leases and framing around the OpenAI backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from graft.server.api.faults import fault_of
from graft.server.api.headers import header_text
from graft.server.api.http_body import read_json_object
from graft.server.api.http_faults import error_body
from graft.server.api.json_text import JsonResponse
from graft.server.api.openai_fields import Endpoint
from graft.server.api.openai_request import CheckedBody, bounded, checked
from graft.server.api.sse import EventStream, Frame, until_gone
from graft.server.api.text import Text
from graft.server.engine.engine import EngineError, Prompt
from graft.server.engine.structured_outputs import check_structure
from graft.server.errors import SlowReader
from graft.server.metrics import Metrics, StreamMeter
from graft.server.parity.receipt import Receipt
from graft.server.patience import each_in_time, in_time
from graft.server.serving import Answerer, Serving, Ticket, new_request_id


class Reply(Protocol):
    """What the backend answers: a body, or decoded frames where the caller asked for a stream."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> dict[str, Any] | None: ...
    @property
    def frames(self) -> AsyncIterator[Any] | None: ...


Verb = Callable[[dict[str, Any], Sequence[Prompt], Ticket], Awaitable[Reply]]


@dataclass(frozen=True, kw_only=True)
class OpenAIEndpoint:
    """One route, as an ASGI application: the whole answer happens inside the request's admission and lease."""

    serving: Serving
    verb: Verb
    endpoint: Endpoint
    text: Text
    metrics: Metrics
    max_body_bytes: int
    write_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await read_json_object(request, max_bytes=self.max_body_bytes)
        request_body = checked(body, self.endpoint, self.text)
        if "response_format" in request_body.fields or "structured_outputs" in request_body.fields:
            await asyncio.to_thread(check_structure, request_body.fields)
        await until_gone(receive, self._answer(request_body, request, send))

    async def _answer(self, body: CheckedBody, request: Request, send: Send) -> None:
        self.serving.check(body.model)
        prompts = await body.prompts(self.text)
        fields = bounded(body.fields, prompts, self.text)
        usage_wanted = _usage_wanted(fields)
        async with self.serving.enter(model=body.model, request_id=new_request_id()) as ticket:
            reply = await in_time(self.verb(_counted(fields), prompts, ticket), ticket.deadline)
            headers = answerer_headers(ticket.answerer)
            if reply.frames is None:
                self._count(reply.body or {}, ticket)
                await JsonResponse(reply.body, status_code=reply.status, headers=headers)(
                    request.scope, request.receive, send
                )
                return
            stream = EventStream(send, headers=headers, write_seconds=self.write_seconds)
            frames = _Frames(ticket, self.serving, self.metrics, usage_wanted=usage_wanted)
            async with aclosing(each_in_time(reply.frames, ticket.deadline)) as items:
                await frames.write(items, stream, request.scope)

    def _count(self, body: Mapping[str, Any], ticket: Ticket) -> None:
        meter = StreamMeter(self.metrics, entered_at=ticket.entered_at)
        if "error" not in body:
            meter.delivered(0)
        prompt, generated = count_usage(self.metrics, body.get("usage"))
        self.serving.charge(ticket, prompt_tokens=prompt, generated_tokens=generated)


class _Frames:
    """Writes one stream of chunks, counting them. It is complete once each choice that began has ended."""

    def __init__(self, ticket: Ticket, serving: Serving, metrics: Metrics, *, usage_wanted: bool) -> None:
        self._ticket = ticket
        self._serving = serving
        self._num_charged = 0
        self._metrics = metrics
        self._meter = StreamMeter(metrics, entered_at=ticket.entered_at)
        self._usage_wanted = usage_wanted
        self._open: set[int] = set()

    async def write(self, items: AsyncIterator[Frame], stream: EventStream, scope: Scope) -> None:
        # Headers wait for the first frame: what fails before it still has a status of its own.
        first = await anext(items, None)
        if first is None:
            raise EngineError("the engine's answer was empty")
        await stream.start()
        try:
            complete = await self._frame(first, stream)
            async for item in items:
                complete = complete and await self._frame(item, stream)
            if complete and self._open:
                raise EngineError(f"the engine ended the stream with choices {sorted(self._open)} incomplete")
        except SlowReader:
            raise
        except Exception as error:
            complete, fault = False, fault_of(error)
            scope["state"]["outcome"] = fault.outcome
            await stream.frame(error_body(fault))
        await stream.end(complete=complete)

    async def _frame(self, item: Frame, stream: EventStream) -> bool:
        """Write a frame; False where it says that the stream failed."""
        if isinstance(item, str):
            await stream.frame(item)
            return True
        choices = item.get("choices") or ()
        for choice in choices:
            self._delivered(choice)
        usage = item.get("usage")
        if usage and not choices:
            prompt, generated = count_usage(self._metrics, usage)
            self._serving.charge(
                self._ticket, prompt_tokens=prompt, generated_tokens=max(0, generated - self._num_charged)
            )
        if usage and not self._usage_wanted:
            if not choices:
                return True
            item = {key: value for key, value in item.items() if key != "usage"}
        await stream.frame(item)
        return "error" not in item

    def _delivered(self, choice: Mapping[str, Any]) -> None:
        index = choice.get("index", 0)
        self._meter.delivered(index)
        # Chunks do not say how many tokens they hold: one at least, and the usage at the end says how many more.
        self._serving.charge(self._ticket, generated_tokens=1)
        self._num_charged += 1
        if choice.get("finish_reason") is None:
            self._open.add(index)
        else:
            self._open.discard(index)


def _usage_wanted(body: Mapping[str, Any]) -> bool:
    return body.get("stream_options", {}).get("include_usage") is True


def _counted(body: dict[str, Any]) -> dict[str, Any]:
    """The body with usage asked for, so that streamed tokens can be counted; the frame is left out afterwards."""
    if body.get("stream") is not True:
        return body
    return {**body, "stream_options": {**body.get("stream_options", {}), "include_usage": True}}


def count_usage(metrics: Metrics, usage: object) -> tuple[int, int]:
    """Count what the answer says; returns its prompt and its generated tokens."""
    if not isinstance(usage, Mapping):
        return 0, 0
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    prompt, generated = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    metrics.count_tokens(prompt=prompt, cached=cached or 0, completion=generated)
    return prompt, generated


def answerer_headers(answerer: Answerer) -> dict[str, str]:
    """Who answered."""
    headers = {"x-graft-base": answerer.base_digest}
    if answerer.adapter is None:
        return {"x-graft-adapter": header_text(answerer.base), **headers}
    if answerer.parity is not None:
        headers["x-graft-parity"] = parity_header(answerer.parity)
    return {
        "x-graft-adapter": header_text(f"{answerer.adapter}@{answerer.version_number}"),
        "x-graft-version": answerer.version_digest or "",
        **headers,
    }


def parity_header(receipt: Receipt) -> str:
    """How far the version was from its reference when it was checked: `trainer;mean=0.0031;tokens=32`."""
    if receipt.deltas is None:
        return str(receipt.source)
    return f"{receipt.source};mean={receipt.deltas.mean_abs_delta:.4f};tokens={receipt.deltas.num_tokens}"
