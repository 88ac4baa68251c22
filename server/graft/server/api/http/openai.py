"""`/v1/chat/completions` and `/v1/completions`: admission, leases and framing around the OpenAI backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from graft.server.api.bodies import BodyBudget
from graft.server.api.faults import fault_of
from graft.server.api.http.body import json_object, read_body
from graft.server.api.http.faults import error_body
from graft.server.api.http.headers import header_text
from graft.server.api.http.json_text import JsonResponse
from graft.server.api.http.openai_fields import Endpoint
from graft.server.api.http.openai_request import CheckedBody, bounded, checked
from graft.server.api.http.sse import EventStream, Frame, until_gone
from graft.server.engine.engine import EngineError, Prompt
from graft.server.engine.schema.structured_outputs import check_structure
from graft.server.engine.text import Text
from graft.server.errors import SlowReader
from graft.server.parity.receipt import Receipt
from graft.server.runtime.deadlines import each_in_time, in_time
from graft.server.runtime.request_id import current_request_id
from graft.server.serving import Answerer, Serving, Ticket


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
    max_body_bytes: int
    bodies: BodyBudget
    write_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.bodies.share() as take:
            await self._asked(Request(scope, receive), take, send)

    async def _asked(self, request: Request, take: Callable[[int], None], send: Send) -> None:
        request_body = await self._read(request, take)
        if "response_format" in request_body.fields or "structured_outputs" in request_body.fields:
            await asyncio.to_thread(check_structure, request_body.fields)
        await until_gone(request.receive, self._answer(request_body, request, send))

    async def _read(self, request: Request, take: Callable[[int], None]) -> CheckedBody:
        raw = await read_body(request, max_bytes=self.max_body_bytes, take=take)
        return await self.text.beside(lambda: checked(json_object(raw), self.endpoint, self.text), len(raw))

    async def _answer(self, body: CheckedBody, request: Request, send: Send) -> None:
        self.serving.check(body.model)
        prompts = await body.prompts(self.text)
        fields = bounded(body.fields, prompts, self.text)
        async with self.serving.enter(model=body.model, request_id=current_request_id()) as ticket:
            reply = await in_time(self.verb(fields, prompts, ticket), ticket.deadline)
            headers = answerer_headers(ticket.answerer)
            if reply.frames is None:
                await JsonResponse(reply.body, status_code=reply.status, headers=headers)(
                    request.scope, request.receive, send
                )
                return
            stream = EventStream(send, headers=headers, write_seconds=self.write_seconds)
            async with aclosing(each_in_time(reply.frames, ticket.deadline)) as items:
                await _Frames().write(items, stream, request.scope)


class _Frames:
    """Writes one stream of chunks. It is complete once each choice that began has ended."""

    def __init__(self) -> None:
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
        for choice in item.get("choices") or ():
            if choice.get("finish_reason") is None:
                self._open.add(choice.get("index", 0))
            else:
                self._open.discard(choice.get("index", 0))
        await stream.frame(item)
        return "error" not in item


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
