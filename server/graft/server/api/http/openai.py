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
from graft.server.api.http.model import AskedModel, asked_model
from graft.server.api.http.openai_fields import Endpoint
from graft.server.api.http.openai_request import CheckedBody, bounded, checked
from graft.server.api.http.programs.call import ProgramCall, calls_program, read_call
from graft.server.api.http.programs.reply import run_reply, with_told
from graft.server.api.http.sse import EventStream, Frame, until_gone
from graft.server.engine.engine import EngineError
from graft.server.engine.openai import OpenAIRequest, Reply
from graft.server.engine.text import Text
from graft.server.errors import SlowReader
from graft.server.operations.logs import current_request_id
from graft.server.parity.receipt import Receipt
from graft.server.prompting.running.programs import Programs
from graft.server.runtime.session import in_session_of
from graft.server.runtime.tenant import current_tenant
from graft.server.serving import Answerer, Serving, Ticket

# Headers take visible ASCII.
_AS_IT_IS = (string.punctuation + " ").replace("%", "")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request that was judged, and whom it asks; `call` is the program's that it calls."""

    body: CheckedBody
    model: AskedModel
    call: ProgramCall | None = None

    @property
    def name(self) -> str:
        """What the caller calls the model."""
        return self.body.model if self.call is None else self.call.model


@dataclass(frozen=True, kw_only=True)
class OpenAIEndpoint:
    """One route, as an ASGI application: the whole answer happens inside the request's admission and lease."""

    serving: Serving
    endpoint: Endpoint
    text: Text
    max_body_bytes: int
    bodies: BodyBudget
    write_seconds: float
    programs: Programs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.bodies.share() as take:
            await self._asked(Request(scope, receive), take, send)

    async def _asked(self, request: Request, take: Callable[[int], None], send: Send) -> None:
        raw = await read_body(request, max_bytes=self.max_body_bytes, take=take)
        body = await self.text.beside(lambda: json_object(raw), len(raw))
        in_session_of(body)
        call = None
        if calls_program(body, self.endpoint):
            call = await read_call(body, self.endpoint, self.programs, self.text)
            if call.body is None:
                await until_gone(request.receive, self._run(call, request, send))
                return
            body = call.body
        asked = await self._judged(body, len(raw), call)
        if not {"response_format", "structured_outputs", "tools"}.isdisjoint(asked.body.fields):
            await asyncio.to_thread(asked.body.check_form)
        await until_gone(request.receive, self._answer(asked, request, send))

    async def _judged(self, body: dict[str, Any], num_bytes: int, call: ProgramCall | None) -> _Asked:
        model = await asked_model(body.get("model"), self.serving, self.text)
        read = await self.text.beside(lambda: checked(body, self.endpoint, model.text), num_bytes)
        return _Asked(body=read, model=model, call=call)

    async def _answer(self, asked: _Asked, request: Request, send: Send) -> None:
        body, tenant = asked.body, current_tenant()
        resolved = asked.model.required(body.model, self.serving)
        prompts = await body.prompts(asked.model.text)
        fields = bounded(body.fields, prompts, asked.model.text)
        entered = self.serving.enter(
            model=body.model, tenant=tenant, request_id=current_request_id(), resolved=resolved
        )
        async with entered as ticket:
            for_engine = OpenAIRequest(fields=fields, prompts=prompts, tools=body.tools, variables=body.variables)
            reply = await self.serving.openai(ticket, for_engine)
            if asked.call is not None:
                reply = with_told(reply, asked.call)
            await self._send(reply, ticket, asked.name, asked.call, request, send)

    async def _run(self, call: ProgramCall, request: Request, send: Send) -> None:
        """A program that is more than one ordinary request."""
        entered = self.programs.enter(call.prepared, tenant=current_tenant(), request_id=current_request_id())
        async with entered as ticket:
            reply = await run_reply(call, self.endpoint, self.programs, ticket)
            await self._send(reply, ticket, call.model, call, request, send)

    async def _send(
        self, reply: Reply, ticket: Ticket, model: str, call: ProgramCall | None, request: Request, send: Send
    ) -> None:
        name = partial(_named, ticket=ticket, model=model)
        headers = answerer_headers(ticket.answerer) | ({} if call is None else call.headers)
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
