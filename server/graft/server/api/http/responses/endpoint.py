"""`/v1/responses`, stateless: a chat in other words, in and out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
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
from graft.server.api.http.responses.events import Events
from graft.server.api.http.responses.output import ended, items_of, response_object
from graft.server.api.http.responses.request import AskedResponse, ResolvePrompt, StoredPrompt, as_chat
from graft.server.api.http.sse import EventStream, Frame, until_gone
from graft.server.engine.engine import EngineError
from graft.server.engine.openai import OpenAIRequest
from graft.server.engine.text import Text
from graft.server.errors import BadInput, SlowReader, Violation
from graft.server.operations.logs import current_request_id
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import shown
from graft.server.serving import Serving, Ticket


@dataclass(frozen=True, kw_only=True)
class ResponsesEndpoint:
    """The route, as an ASGI application: the whole answer happens inside the request's admission and lease.

    `resolve_prompt` reads stored prompts; without it a request that names one is refused.
    """

    serving: Serving
    text: Text
    max_body_bytes: int
    bodies: BodyBudget
    write_seconds: float
    resolve_prompt: ResolvePrompt | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.bodies.share() as take:
            request = Request(scope, receive)
            asked, body, model = await self._read(request, take)
            await until_gone(request.receive, self._answer(asked, body, model, request, send))

    async def _read(
        self, request: Request, take: Callable[[int], None]
    ) -> tuple[AskedResponse, CheckedBody, AskedModel]:
        raw = await read_body(request, max_bytes=self.max_body_bytes, take=take)
        given = await self.text.beside(lambda: json_object(raw), len(raw))
        asked = as_chat(given, await self._stored(given.get("prompt")))
        model = await asked_model(asked.chat.get("model"), self.serving, self.text)
        with asked.own_words():
            body = await self.text.beside(lambda: checked(asked.chat, CHAT, model.text), len(raw))
            if not {"response_format", "tools"}.isdisjoint(body.fields):
                await asyncio.to_thread(body.check_form)
        return asked, body, model

    async def _stored(self, reference: Any) -> StoredPrompt | None:
        if reference is None:
            return None
        if self.resolve_prompt is None or not isinstance(reference, dict):
            problem = "stored prompts are not served here" if isinstance(reference, dict) else "it must be an object"
            raise BadInput(Violation(field="prompt", problem=f"is {shown(reference)}; {problem}"))
        return await self.resolve_prompt(reference)

    async def _answer(
        self, asked: AskedResponse, body: CheckedBody, model: AskedModel, request: Request, send: Send
    ) -> None:
        tenant, resolved = current_tenant(), model.required(body.model, self.serving)
        with asked.own_words():
            prompts = await body.prompts(model.text)
            fields = bounded(body.fields, prompts, self.text)
        entered = self.serving.enter(
            model=body.model, tenant=tenant, request_id=current_request_id(), resolved=resolved
        )
        async with entered as ticket:
            chat = OpenAIRequest(fields=fields, prompts=prompts, tools=body.tools, variables=body.variables)
            with asked.own_words():
                reply = await self.serving.openai(ticket, chat)
            response = _begun(asked, body, ticket)
            headers = {**answerer_headers(ticket.answerer), **asked.headers}
            if reply.body is not None:
                (choice,) = reply.body["choices"]
                finish, usage = choice.get("finish_reason"), reply.body.get("usage")
                whole = ended(response, items_of(choice), finish, usage)
                await JsonResponse(whole, headers=headers)(request.scope, request.receive, send)
            if reply.frames is not None:
                stream = EventStream(send, headers=headers, write_seconds=self.write_seconds)
                async with aclosing(reply.frames) as frames:
                    await _write(frames, Events(response), stream, request.scope)


def _begun(asked: AskedResponse, body: CheckedBody, ticket: Ticket) -> dict[str, Any]:
    one = ticket.answerer
    return response_object(
        {**asked.given, "model": body.model},
        response_id=f"resp_{current_request_id()}",
        created=float(int(time())),
        fingerprint=one.version_digest or one.base_digest,
    )


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
