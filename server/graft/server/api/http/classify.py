"""`/v1/classify`, in vLLM's words: texts in, each with its probabilities out, by an adapter that brings a head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from graft.server.api.classes import Classified, Source, classified, pair, prompts_of
from graft.server.api.http.body import BodyBudget, JsonResponse, json_object, read_body
from graft.server.api.http.openai import answerer_headers
from graft.server.api.http.sse import until_gone
from graft.server.api.limits import MAX_SEQUENCES
from graft.server.engine.text import Text
from graft.server.operations.logs import current_request_id
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations, shown
from graft.server.serving import Serving, Ticket

_KINDS = "give text, token ids, {text, text_pair}, or a list of these"
_FIELDS = ("model", "input", "truncate_prompt_tokens", "use_activation", "user")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request that was judged; `most` tokens of each input are read, or it must fit."""

    model: str
    sources: Mapping[str, Source]
    most: int | None
    with_activation: bool


@dataclass(frozen=True, kw_only=True)
class ClassifyEndpoint:
    """The route, as an ASGI application: the whole answer happens inside the request's admission and lease."""

    serving: Serving
    text: Text
    max_body_bytes: int
    bodies: BodyBudget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.bodies.share() as take:
            request = Request(scope, receive)
            raw = await read_body(request, max_bytes=self.max_body_bytes, take=take)
            asked = await self.text.beside(lambda: _asked(json_object(raw), self.text), len(raw))
            await until_gone(request.receive, self._answer(asked, request, send))

    async def _answer(self, asked: _Asked, request: Request, send: Send) -> None:
        tenant = current_tenant()
        resolved = self.serving.check(asked.model, tenant=tenant, classifies=True)
        prompts = await prompts_of(asked.sources, asked.most, self.text)
        entered = self.serving.enter(
            model=asked.model, tenant=tenant, request_id=current_request_id(), resolved=resolved
        )
        async with entered as ticket:
            found = await self.serving.classify(ticket, prompts)
            answers = [classified(one, ticket.head) for one in found]
            body = _body(asked, answers, ticket)
            await JsonResponse(body, headers=answerer_headers(ticket.answerer))(request.scope, request.receive, send)


def _body(asked: _Asked, answers: list[Classified], ticket: Ticket) -> dict[str, Any]:
    read, one = ticket.meter, ticket.answerer
    return {
        "id": f"classify-{current_request_id()}",
        "object": "list",
        "created": int(time()),
        "model": asked.model,
        "system_fingerprint": one.version_digest,
        "data": [
            {
                "index": index,
                "label": said.label,
                "probs": said.probs if said.probs and asked.with_activation else said.outputs,
                "num_classes": len(said.outputs),
            }
            for index, said in enumerate(answers)
        ],
        "usage": {
            "prompt_tokens": read.num_prompt_tokens,
            "total_tokens": read.num_prompt_tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": read.num_cached_tokens},
        },
    }


def _asked(body: Mapping[str, Any], text: Text) -> _Asked:
    """Raises `BadInput` with everything that is wrong with the body."""
    violations = Violations()
    given = {name: value for name, value in body.items() if value is not None}
    for name in violations.until_full(given):
        if name == "messages":
            violations.add(name, "is a chat, and heads are trained on texts: give `input`")
        elif name not in _FIELDS:
            violations.add(name[:40], f"is not read here: the fields are {', '.join(_FIELDS)}")
    model, most = given.get("model"), given.get("truncate_prompt_tokens")
    if not isinstance(model, str) or not model:
        violations.add("model", f"{'is missing' if model is None else f'is {shown(model)}'}: name an adapter, as text")
    if most is not None and (type(most) is not int or not (most == -1 or most > 0)):
        violations.add("truncate_prompt_tokens", f"is {shown(most)}; it must be at least 1, or -1 for the context")
    if not isinstance(given.get("use_activation", True), bool):
        violations.add("use_activation", f"is {shown(given['use_activation'])}; it must be true or false")
    sources = _sources(given.get("input"), text, violations)
    violations.raise_any()
    return _Asked(
        model=str(model),
        sources=sources,
        most=text.max_model_tokens - 1 if most == -1 else most,
        with_activation=given.get("use_activation", True),
    )


def _sources(given: Any, text: Text, violations: Violations) -> dict[str, Source]:
    if given is None or given in ("", [], {}):
        violations.add("input", f"{'is missing' if given is None else 'is empty'}: {_KINDS}")
        return {}
    if not isinstance(given, list) or not any(isinstance(one, str | list | Mapping) for one in given):
        return {"input": _source(given, "input", text, violations)}
    if len(given) > MAX_SEQUENCES:
        violations.add("input", f"has {len(given)} entries; the limit is {MAX_SEQUENCES}")
        return {}
    fields = ((f"input[{index}]", one) for index, one in enumerate(given))
    return {field: _source(one, field, text, violations) for field, one in violations.until_full(fields)}


def _source(given: Any, field: str, text: Text, violations: Violations) -> Source:
    if isinstance(given, list):
        if not given:
            violations.add(field, f"is empty: {_KINDS}")
        return text.check_ids(given, field=field, violations=violations)
    texts = dict(given) if isinstance(given, Mapping) else {"text": given}
    if not isinstance(given, str | Mapping) or not texts.keys() <= {"text", "text_pair"}:
        violations.add(field, f"is {shown(given)}; {_KINDS}")
        return ""
    for name, value in (("text", texts.get("text")), ("text_pair", texts.get("text_pair", " "))):
        if not isinstance(value, str) or not value:
            problem = "is empty" if value == "" else "is missing" if value is None else f"is {shown(value)}"
            place = f"{field}.{name}" if isinstance(given, Mapping) else field
            violations.add(place, f"{problem}: give text")
            return ""
    return pair(texts["text"], texts.get("text_pair"))
