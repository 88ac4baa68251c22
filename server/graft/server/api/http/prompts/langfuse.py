"""Langfuse's prompt API (`/api/public/v2/prompts`), as its clients call it.

Shapes are those of Langfuse's OpenAPI description. What its prompts cannot hold (demonstrations, reasoning, output)
is neither told nor written here: see `/v1/prompts`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from graft.server.api.faults import fault_of
from graft.server.api.http.body import JsonResponse
from graft.server.api.http.prompts.fields import Fields, query_of
from graft.server.api.http.prompts.prompts import PromptRoutes
from graft.server.api.http.sse import ClientGone
from graft.server.prompting.catalog.draft import MAX_LABELS
from graft.server.prompting.catalog.prompt import PromptVersion
from graft.server.prompting.catalog.snapshot import PromptEntry
from graft.server.prompting.program.names import check_label
from graft.server.prompting.program.program import Turn
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations, shown

_LISTED = ("name", "label", "tag", "version", "page", "limit", "fromUpdatedAt", "toUpdatedAt")
_CREATED = ("name", "type", "prompt", "config", "labels", "tags", "commitMessage")
_ERRORS = {404: "LangfuseNotFoundError", 409: "LangfuseConflictError", 400: "InvalidRequestError"}
_MAX_PAGE = 10**6
_TURN_TYPES = ("chatmessage", "message")
Handler = Callable[[Request], Awaitable[Response]]


def in_its_words(handler: Handler) -> Handler:
    """Errors as Langfuse's clients read them: `{"message", "error"}`."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientGone:
            raise
        except Exception as error:
            fault = fault_of(error)
            request.scope["state"]["outcome"] = fault.outcome
            name = _ERRORS.get(fault.row.http, fault.row.reason)
            return JsonResponse({"message": fault.message, "error": name}, status_code=fault.row.http)

    return answer


@dataclass(frozen=True, kw_only=True)
class LangfuseRoutes:
    """Each method answers one route."""

    routes: PromptRoutes

    async def get(self, request: Request) -> Response:
        """`GET …/prompts/{name}?label=&version=`, by default what `production` points at."""
        violations = Violations()
        query = query_of(request, ("version", "label", "resolve"), violations)
        number = query.number("version", default=0, high=2**31 - 1)
        version = str(number) if number else ""
        found = self.routes.found(request.path_params["prompt"], version, query.text("label"), violations)
        return await self.routes.told(found, _prompt)

    async def list(self, request: Request) -> Response:
        """`GET …/prompts`: names with the versions that all filters take, in pages."""
        violations = Violations()
        query = query_of(request, _LISTED, violations)
        page, limit = query.number("page", default=1, high=_MAX_PAGE), query.number("limit", default=50)
        takes = _filters(query)
        violations.raise_any()
        name = query.text("name")
        entries = [one for one in self.routes.prompts.matching(current_tenant()) if name in ("", one.name)]

        def listed() -> Response:
            taken = ((one, [each for each in one.versions.values() if takes(each, one)]) for one in entries)
            found = [(entry, versions) for entry, versions in taken if versions]
            meta = {"page": page, "limit": limit, "totalItems": len(found), "totalPages": math.ceil(len(found) / limit)}
            data = [_meta(entry, versions) for entry, versions in found[(page - 1) * limit : page * limit]]
            return JsonResponse({"data": data, "meta": meta})

        # Beside the event loop: each program of the page may have a megabyte.
        return await asyncio.to_thread(listed)

    async def create(self, request: Request) -> Response:
        """`POST …/prompts`: a version of a text or chat, and the labels that point at it."""
        body = await self.routes.read(request)
        violations = Violations()
        fields = Fields(body, _CREATED, violations)
        program: dict[str, Any] = {"prompt": _given_prompt(fields.get("prompt"))}
        if fields.text("type"):
            program["type"] = fields.text("type")
        config = fields.get("config")
        if isinstance(config, dict):
            program["config"] = config
        elif config is not None:
            fields.add("config", f"is {shown(config)}; it must be an object")
        values: dict[str, Any] = {
            "prompt": fields.text("name", required=True),
            "tags": fields.texts("tags"),
            "commit_message": fields.text("commitMessage"),
            "labels": fields.texts("labels"),
        }
        violations.raise_any()
        return await self.routes.register(values, program, None, _prompt)

    async def update(self, request: Request) -> Response:
        """`PATCH …/prompts/{name}/versions/{version}` with `newLabels`: they point at this version then."""
        body = await self.routes.read(request)
        violations = Violations()
        fields = Fields(body, ("newLabels",), violations)
        labels = fields.texts("newLabels")
        if len(labels) > MAX_LABELS:
            fields.add("newLabels", f"has {len(labels)} entries; the limit is {MAX_LABELS}")
        name, number = request.path_params["prompt"], str(request.path_params["version"])
        version = self.routes.found(name, number, "", violations)
        for label in labels:
            check_label(label)
        for label in labels:
            await self.routes.prompts.set_label(
                tenant=current_tenant(), prompt=name, label=label, version=number, expected_etag=None, request_id=None
            )
        return await self.routes.told(version, _prompt)


def _prompt(version: PromptVersion, entry: PromptEntry) -> dict[str, Any]:
    program = version.program
    return {
        "name": version.prompt,
        "version": version.number,
        "type": str(program.type),
        "prompt": program.prompt if isinstance(program.prompt, str) else list(map(_entry_object, program.prompt)),
        "config": program.config,
        "labels": list(entry.labels_of(version.number)) if version.number in entry.versions else [],
        "tags": list(version.tags),
        "commitMessage": version.commit_message or None,
        "createdAt": _time(version.create_time),
        "updatedAt": _time(version.create_time),
        "resolutionGraph": None,
    }


def _entry_object(entry: Any) -> dict[str, str]:
    if isinstance(entry, Turn):
        return {"type": "chatmessage", "role": entry.role, "content": entry.content}
    return {"type": "placeholder", "name": entry.name}


def _given_prompt(prompt: Any) -> Any:
    """A chat's turns without the type that Langfuse gives them."""
    if not isinstance(prompt, list):
        return prompt
    return [
        {key: value for key, value in one.items() if key != "type"}
        if isinstance(one, dict) and one.get("type") in _TURN_TYPES
        else one
        for one in prompt
    ]


Takes = Callable[[PromptVersion, PromptEntry], bool]


def _filters(query: Fields) -> Takes:
    label, tag = query.text("label"), query.text("tag")
    number = query.number("version", default=0, high=2**31 - 1)
    since, until = (_moment(query, name) for name in ("fromUpdatedAt", "toUpdatedAt"))

    def takes(version: PromptVersion, entry: PromptEntry) -> bool:
        return (
            (not label or label in entry.labels_of(version.number))
            and (not tag or tag in version.tags)
            and number in (0, version.number)
            and (since is None or version.create_time >= since)
            and (until is None or version.create_time < until)
        )

    return takes


def _moment(query: Fields, name: str) -> datetime | None:
    text = query.text(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        query.add(name, f"is {shown(text)}; it must be a time as 2026-11-27T12:00:00Z")
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _meta(entry: PromptEntry, versions: list[PromptVersion]) -> dict[str, Any]:
    """A program with those of its versions that the filters take, one at least."""
    heading = versions[-1].heading
    return {
        "name": entry.name,
        "type": str(heading.type),
        "versions": [one.number for one in versions],
        "labels": list(_labels(versions, entry)),
        "tags": list(versions[-1].tags),
        "lastUpdatedAt": _time(max(one.create_time for one in versions)),
        "lastConfig": heading.config,
    }


def _labels(versions: list[PromptVersion], entry: PromptEntry) -> Iterator[str]:
    for version in versions:
        yield from entry.labels_of(version.number)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
