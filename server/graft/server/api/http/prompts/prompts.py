"""`/v1/prompts`: programs, versions and labels as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from graft.server.api.http.body import BodyBudget, JsonResponse, json_object, read_body
from graft.server.api.http.prompts.fields import Fields, query_of
from graft.server.prompting.catalog.draft import Draft, read_draft
from graft.server.prompting.catalog.prompt import PromptLabel, PromptVersion
from graft.server.prompting.catalog.prompts import Prompts
from graft.server.prompting.catalog.snapshot import PromptEntry
from graft.server.prompting.program.names import check_prompt_name
from graft.server.prompting.program.references import PromptReference, read_selector
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations, shown

MAX_BODY_BYTES = 4 << 20
"""A program of a megabyte, written with escapes."""
Shape = Callable[[PromptVersion, PromptEntry], dict[str, Any]]
"""A version as a JSON object."""
_CREATED = ("name", "program", "tags", "commit_message", "labels", "request_id")


@dataclass(frozen=True, kw_only=True)
class PromptRoutes:
    """Each method answers one route. Errors are raised as they are: the front turns them into OpenAI's object."""

    prompts: Prompts
    bodies: BodyBudget

    async def list(self, request: Request) -> Response:
        """`GET /v1/prompts`, by name, in pages of `limit` after the name `after`."""
        violations = Violations()
        query = query_of(request, ("after", "limit", "prefix", "label", "tag"), violations)
        limit, after = query.number("limit", default=20), query.text("after")
        wanted = {name: query.text(name) for name in ("prefix", "label", "tag")}
        violations.raise_any()
        found = [one for one in self.prompts.matching(current_tenant(), **wanted) if one.name > after]
        data = [prompt_object(one) for one in found[:limit]]
        ids = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        return JsonResponse({"object": "list", "data": data, **ids, "has_more": len(found) > limit})

    async def create(self, request: Request) -> Response:
        """`POST /v1/prompts` with `name` and `program`: 201, also for content that is there already."""
        body = await self.read(request)
        violations = Violations()
        fields = Fields(body, _CREATED, violations)
        program = fields.get("program")
        if not isinstance(program, dict | str):
            fields.add("program", "is missing" if program is None else f"is {shown(program)}; it must be an object")
        values: dict[str, Any] = {
            "prompt": fields.text("name", required=True),
            "tags": fields.texts("tags"),
            "commit_message": fields.text("commit_message"),
            "labels": fields.texts("labels"),
        }
        request_id = fields.text("request_id") or None
        violations.raise_any()
        return await self.register(values, program, request_id, version_object)

    async def register(
        self,
        values: dict[str, Any],
        program: dict[str, Any] | str,
        request_id: str | None,
        shape: Shape,
    ) -> Response:
        """Register what `read_draft` takes, and answer in this shape."""
        tenant = current_tenant()

        def read() -> Draft:
            text = program if isinstance(program, str) else json.dumps(program)
            return read_draft(tenant=tenant, program=text, **values)

        # Beside the event loop, here and below: a program may have a megabyte.
        draft = await asyncio.to_thread(read)
        done = await self.prompts.register(draft, request_id=request_id)
        entry, notices = self.prompts.current.get(tenant, draft.prompt), list(done.notices)
        return await asyncio.to_thread(
            lambda: JsonResponse({**shape(done.version, entry), "notices": notices}, status_code=201)
        )

    async def get(self, request: Request) -> Response:
        """`GET /v1/prompts/{name}`: the version that `version` or `label` names, by default `production`."""
        violations = Violations()
        query = query_of(request, ("version", "label"), violations)
        version = self.found(request.path_params["prompt"], query.text("version"), query.text("label"), violations)
        return await self.told(version, version_object)

    async def versions(self, request: Request) -> Response:
        """`GET /v1/prompts/{name}/versions`, newest first, in pages of `limit` before the number `before`."""
        violations = Violations()
        query = query_of(request, ("before", "limit"), violations)
        limit = query.number("limit", default=20)
        before = query.number("before", default=0, high=2**31 - 1)
        violations.raise_any()
        entry = self.prompts.current.get(current_tenant(), check_prompt_name(request.path_params["prompt"]))
        found = [one for one in reversed(list(entry.versions.values())) if not before or one.number < before]
        data = [version_object(one, entry, whole=False) for one in found[:limit]]
        return JsonResponse({"object": "list", "data": data, "has_more": len(found) > limit})

    async def set_label(self, request: Request) -> Response:
        """`POST /v1/prompts/{name}/labels/{label}` with `version`, and `etag` for compare-and-set."""
        body = await self.read(request)
        violations = Violations()
        fields = Fields(body, ("version", "etag", "request_id"), violations)
        version, etag = fields.get("version"), fields.get("etag")
        if isinstance(version, int) and not isinstance(version, bool):
            version = str(version)
        if not isinstance(version, str) or not version:
            fields.add("version", "is missing: a number, a digest or a label")
        if not isinstance(etag, str | None):
            fields.add("etag", f"is {shown(etag)}; it must be a text")
        request_id = fields.text("request_id") or None
        violations.raise_any()
        moved, target = await self.prompts.set_label(
            tenant=current_tenant(),
            prompt=request.path_params["prompt"],
            label=request.path_params["label"],
            version=str(version),
            expected_etag=etag,
            request_id=request_id,
        )
        return JsonResponse(label_object(moved, target))

    async def delete_label(self, request: Request) -> Response:
        """`DELETE /v1/prompts/{name}/labels/{label}`."""
        prompt, label = request.path_params["prompt"], request.path_params["label"]
        await self.prompts.delete_label(tenant=current_tenant(), prompt=prompt, label=label, request_id=None)
        return JsonResponse({"id": f"{prompt}:{label}", "object": "prompt.label.deleted", "deleted": True})

    async def delete(self, request: Request) -> Response:
        """`DELETE /v1/prompts/{name}?version=`, or all of it with `force=true`."""
        violations = Violations()
        query = query_of(request, ("version", "force"), violations)
        version, force = query.text("version"), query.flag("force")
        violations.raise_any()
        name, tenant = check_prompt_name(request.path_params["prompt"]), current_tenant()
        if version:
            await self.prompts.delete_version(tenant=tenant, prompt=name, version=version, request_id=None)
        else:
            await self.prompts.delete_prompt(tenant=tenant, prompt=name, force=force, request_id=None)
        what = f"{name}@{version}" if version else name
        return JsonResponse({"id": what, "object": "prompt.deleted", "deleted": True})

    def found(self, name: str, version: str, label: str, violations: Violations) -> PromptVersion:
        """The version of a name and of what a query says. Raises `BadInput`, InvalidReference, NotFound."""
        if version and label:
            violations.add("version", "is given beside `label`; give one")
        violations.raise_any()
        reference = PromptReference(name=check_prompt_name(name), selector=read_selector(version or label))
        return self.prompts.resolve(reference, tenant=current_tenant()).version

    async def told(self, version: PromptVersion, shape: Shape) -> Response:
        """A version that is there, in this shape."""
        entry = self.prompts.current.get(version.tenant, version.prompt)
        return await asyncio.to_thread(lambda: JsonResponse(shape(version, entry)))

    async def read(self, request: Request) -> dict[str, Any]:
        """The body, a JSON object."""
        with self.bodies.share() as take:
            raw = await read_body(request, max_bytes=MAX_BODY_BYTES, take=take)
            return await asyncio.to_thread(json_object, raw)


def version_object(version: PromptVersion, entry: PromptEntry, *, whole: bool = True) -> dict[str, Any]:
    """A version; `id` and `version` are those of the `prompt` in a request to `/v1/responses`."""
    found = {
        "id": version.prompt,
        "object": "prompt.version",
        "version": str(version.number),
        "digest": version.digest,
        "created_at": int(version.create_time.timestamp()),
        "labels": list(entry.labels_of(version.number)) if version.number in entry.versions else [],
        "tags": list(version.tags),
        "commit_message": version.commit_message,
    }
    return {**found, "program": json.loads(version.text)} if whole else found


def prompt_object(entry: PromptEntry) -> dict[str, Any]:
    return {
        "id": entry.name,
        "object": "prompt",
        "version": str(entry.latest.number),
        "num_versions": len(entry.versions),
        "labels": [label_object(one, entry.versions[one.version_number]) for one in entry.labels.values()],
        "tags": list(entry.latest.tags),
        "created_at": int(entry.create_time.timestamp()),
        "updated_at": int(entry.update_time.timestamp()),
    }


def label_object(label: PromptLabel, version: PromptVersion) -> dict[str, Any]:
    return {
        "id": f"{label.prompt}:{label.name}",
        "object": "prompt.label",
        "label": label.name,
        "version": str(version.number),
        "digest": version.digest,
        "etag": label.etag,
        "updated_at": int(label.update_time.timestamp()),
    }
