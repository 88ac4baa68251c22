"""`/v1/chat/completions` and `/v1/completions`: JSON in, `Serving` in between, JSON or server-sent events out."""

from __future__ import annotations

import asyncio
import string
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from graft.server.api.faults import fault_of
from graft.server.api.http.body import BodyBudget, JsonResponse, json_object, read_body
from graft.server.api.http.faults import error_body
from graft.server.api.http.openai_fields import Endpoint
from graft.server.api.http.openai_request import CheckedBody, bounded, checked
from graft.server.api.http.sse import EventStream, Frame, until_gone
from graft.server.api.tenants import current_tenant
from graft.server.engine.engine import EngineError
from graft.server.engine.openai import OpenAIRequest
from graft.server.engine.schema.structured_outputs import check_structure
from graft.server.engine.text import Text
from graft.server.errors import SlowReader
from graft.server.operations.logs import current_request_id
from graft.server.parity.receipt import Receipt
from graft.server.serving import Answerer, Serving, Ticket

# Headers take visible ASCII.
_AS_IT_IS = (string.punctuation + " ").replace("%", "")


@dataclass(frozen=True, kw_only=True)
class OpenAIEndpoint:
    """One route, as an ASGI application: the whole answer happens inside the request's admission and lease."""

    serving: Serving
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
        tenant = current_tenant()
        self.serving.check(body.model, tenant=tenant)
        prompts = await body.prompts(self.text)
        fields = bounded(body.fields, prompts, self.text)
        entered = self.serving.enter(model=body.model, tenant=tenant, request_id=current_request_id())
        async with entered as ticket:
            reply = await self.serving.openai(ticket, OpenAIRequest(fields=fields, prompts=prompts))
            name = partial(_named, ticket=ticket, model=body.model)
            headers = answerer_headers(ticket.answerer)
            if reply.body is not None:
                await JsonResponse(name(reply.body), headers=headers)(request.scope, request.receive, send)
            if reply.frames is not None:
                stream = EventStream(send, headers=headers, write_seconds=self.write_seconds)
                async with aclosing(reply.frames) as frames:
                    await _write(frames, name, stream, request.scope)


def _named(answer: dict[str, Any], *, ticket: Ticket, model: str) -> dict[str, Any]:
    """The answer with what its caller calls the model and the request, and who answered."""
    one = ticket.answerer
    request_id = str(answer["id"]).replace(ticket.engine_id, current_request_id())
    return {**answer, "id": request_id, "model": model, "system_fingerprint": one.version_digest or one.base_digest}


async def _write(
    frames: AsyncIterator[Frame], name: Callable[[Frame], Frame], stream: EventStream, scope: Scope
) -> None:
    # Headers wait for the first frame: what fails before it still has a status of its own.
    first = await anext(frames, None)
    if first is None:
        raise EngineError("the engine's answer was empty")
    await stream.start()
    try:
        await stream.frame(name(first))
        async for frame in frames:
            await stream.frame(name(frame))
    except SlowReader:
        raise
    except Exception as error:
        fault = fault_of(error)
        scope["state"]["outcome"] = fault.outcome
        await stream.frame(error_body(fault))
        await stream.end(complete=False)
    else:
        await stream.end(complete=True)


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


def header_text(text: str) -> str:
    """`text`, with all that a header cannot hold percent-encoded as UTF-8 (RFC 3986); `%` too, so it can be undone."""
    return quote(text, safe=_AS_IT_IS, errors="replace")


def parity_header(receipt: Receipt) -> str:
    """How far the version was from its reference when it was checked: `trainer;mean=0.0031;tokens=32`."""
    if receipt.deltas is None:
        return str(receipt.source)
    return f"{receipt.source};mean={receipt.deltas.mean_abs_delta:.4f};tokens={receipt.deltas.num_tokens}"
