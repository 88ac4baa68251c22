"""`/v1/responses`, stateless: a chat, or a program's call, in other words; in and out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from time import time
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from graft.server.api.faults import fault_of
from graft.server.api.http.body import BodyBudget, JsonResponse, json_object, read_body
from graft.server.api.http.model import AskedModel, asked_model
from graft.server.api.http.openai import answerer_headers
from graft.server.api.http.openai_fields import CHAT
from graft.server.api.http.openai_request import CheckedBody, bounded, checked
from graft.server.api.http.programs.call import ProgramCall, calls_program, read_call
from graft.server.api.http.programs.reply import run_reply, with_told
from graft.server.api.http.responses.events import Events
from graft.server.api.http.responses.output import ended, items_of, response_object
from graft.server.api.http.responses.request import AskedResponse, as_chat
from graft.server.api.http.sse import EventStream, Frame, until_gone
from graft.server.engine.engine import EngineError
from graft.server.engine.openai import OpenAIRequest, Reply
from graft.server.engine.text import Text
from graft.server.errors import SlowReader
from graft.server.operations.logs import current_request_id
from graft.server.prompting.running.programs import Programs
from graft.server.runtime.session import in_session_of
from graft.server.runtime.tenant import current_tenant
from graft.server.serving import Serving, Ticket


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A response's request; `call` is the program's that it calls."""

    response: AskedResponse
    call: ProgramCall | None

    def begun(self, model: str, ticket: Ticket) -> dict[str, Any]:
        """The response under way."""
        one, given = ticket.answerer, {**self.response.given, "model": model}
        if self.call is not None:
            prepared = self.call.prepared
            given |= {"model": self.call.model, "temperature": prepared.temperature, "top_p": prepared.top_p}
        return response_object(
            given,
            response_id=f"resp_{current_request_id()}",
            created=float(int(time())),
            fingerprint=one.version_digest or one.base_digest,
        )


@dataclass(frozen=True, kw_only=True)
class ResponsesEndpoint:
    """The route, as an ASGI application: the whole answer happens inside the request's admission and lease."""

    serving: Serving
    text: Text
    max_body_bytes: int
    bodies: BodyBudget
    write_seconds: float
    programs: Programs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.bodies.share() as take:
            request = Request(scope, receive)
            raw = await read_body(request, max_bytes=self.max_body_bytes, take=take)
            body = await self.text.beside(lambda: json_object(raw), len(raw))
            in_session_of(body)
            response = as_chat(body)
            call = None
            if calls_program(response.chat, CHAT):
                with response.own_words():
                    call = await read_call(response.chat, CHAT, self.programs, self.text)
            asked = _Asked(response=response, call=call)
            if call is not None and call.body is None:
                await until_gone(request.receive, self._run(asked, call, request, send))
                return
            checked_body, model = await self._judged(asked, len(raw))
            await until_gone(request.receive, self._answer(asked, checked_body, model, request, send))

    async def _judged(self, asked: _Asked, num_bytes: int) -> tuple[CheckedBody, AskedModel]:
        chat = asked.response.chat if asked.call is None else asked.call.body
        assert chat is not None
        model = await asked_model(chat.get("model"), self.serving, self.text)
        with asked.response.own_words():
            body = await self.text.beside(lambda: checked(chat, CHAT, model.text), num_bytes)
            if not {"response_format", "structured_outputs", "tools"}.isdisjoint(body.fields):
                await asyncio.to_thread(body.check_form)
        return body, model

    async def _answer(self, asked: _Asked, body: CheckedBody, model: AskedModel, request: Request, send: Send) -> None:
        tenant, resolved = current_tenant(), model.required(body.model, self.serving)
        with asked.response.own_words():
            prompts = await body.prompts(model.text)
            fields = bounded(body.fields, prompts, model.text)
        entered = self.serving.enter(
            model=body.model, tenant=tenant, request_id=current_request_id(), resolved=resolved
        )
        async with entered as ticket:
            chat = OpenAIRequest(fields=fields, prompts=prompts, tools=body.tools, variables=body.variables)
            with asked.response.own_words():
                reply = await self.serving.openai(ticket, chat)
            if asked.call is not None:
                reply = with_told(reply, asked.call)
            await self._send(reply, asked, asked.begun(body.model, ticket), ticket, request, send)

    async def _run(self, asked: _Asked, call: ProgramCall, request: Request, send: Send) -> None:
        """A program that is more than one chat."""
        entered = self.programs.enter(call.prepared, tenant=current_tenant(), request_id=current_request_id())
        async with entered as ticket:
            reply = await run_reply(call, CHAT, self.programs, ticket)
            await self._send(reply, asked, asked.begun(call.model, ticket), ticket, request, send)

    async def _send(
        self, reply: Reply, asked: _Asked, response: dict[str, Any], ticket: Ticket, request: Request, send: Send
    ) -> None:
        headers = {**answerer_headers(ticket.answerer), **(asked.call.headers if asked.call else {})}
        if reply.body is not None:
            whole = ended(response, items_of(reply.body["choices"][0]), reply.body)
            await JsonResponse(whole, headers=headers)(request.scope, request.receive, send)
        if reply.frames is not None:
            stream = EventStream(send, headers=headers, write_seconds=self.write_seconds)
            async with aclosing(reply.frames) as frames:
                await _write(frames, Events(response), stream, request.scope)


async def _write(frames: AsyncIterator[Frame], events: Events, stream: EventStream, scope: Scope) -> None:
    # Headers wait for the first frame: what fails before it still has a status of its own.
    first = await anext(frames, None)
    if first is None:
        raise EngineError("the engine's answer was empty")
    await stream.start()
    try:
        for event in (*events.begin(), *events.of(first)):
            await stream.event(event)
        async for frame in frames:
            for event in events.of(frame):
                await stream.event(event)
        for event in events.end():
            await stream.event(event)
    except SlowReader:
        raise
    except Exception as error:
        fault = fault_of(error)
        scope["state"]["outcome"] = fault.outcome
        for event in events.failed(fault.message, fault.row.http_code, fault.param):
            await stream.event(event)
    await stream.close()
