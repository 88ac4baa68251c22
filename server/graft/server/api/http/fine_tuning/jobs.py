"""`/v1/fine_tuning/jobs` in OpenAI's words."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graft.server.api.http.body import BodyBudget, JsonResponse, json_object, read_body
from graft.server.api.http.fine_tuning.asked import GRADERS, read_job, value_in
from graft.server.api.http.fine_tuning.objects import checkpoint_object, event_object, job_object, number_of
from graft.server.api.http.prompts.fields import Fields, query_of
from graft.server.grading.for_jobs import check_job_grader
from graft.server.grading.grading import Grading
from graft.server.jobs.job import Job
from graft.server.jobs.jobs import Jobs
from graft.server.jobs.policy.states import Move
from graft.server.jobs.store.reads import JobListing
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations, shown

MAX_BODY_BYTES = 1 << 20
_PATH = "/v1/fine_tuning/jobs"
_METADATA = re.compile(r"metadata\[(.+)\]\Z", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class JobRoutes:
    """Each method answers one route. Errors are raised as they are: the front turns them into OpenAI's object."""

    jobs: Jobs
    grading: Grading
    bodies: BodyBudget
    base: str

    def routes(self) -> list[Route]:
        """The paths of jobs."""
        one = f"{_PATH}/{{job}}"
        verbs = [(Move.CANCEL, "cancel"), (Move.PAUSE, "pause"), (Move.RESUME, "resume")]
        return [
            Route(_PATH, self.list, methods=["GET"]),
            Route(_PATH, self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(f"{one}/events", self.events, methods=["GET"]),
            Route(f"{one}/checkpoints", self.checkpoints, methods=["GET"]),
            *(Route(f"{one}/{verb}", self._asking(what), methods=["POST"]) for what, verb in verbs),
        ]

    async def create(self, request: Request) -> Response:
        """`POST /v1/fine_tuning/jobs`."""
        with self.bodies.share() as take:
            raw = await read_body(request, max_bytes=MAX_BODY_BYTES, take=take)
            body, violations = await asyncio.to_thread(json_object, raw), Violations()
            for path in GRADERS:
                if (grader := value_in(body, path)) is not None:
                    await check_job_grader(grader, self.grading, violations, field=path)
            spec, request_id = read_job(body, violations)
        job = await self.jobs.create(spec, tenant=current_tenant(), request_id=request_id)
        return self._told(job)

    async def list(self, request: Request) -> Response:
        """`GET /v1/fine_tuning/jobs`, newest first, those with `metadata[k]=v`, or with none by `metadata=null`."""
        violations = Violations()
        pairs = {key: value for key, value in request.query_params.multi_items() if _METADATA.match(key)}
        query = query_of(request, ("after", "limit", "metadata", *pairs), violations)
        limit, none = query.number("limit", default=20), query.text("metadata")
        if none not in ("", "null") or (none and pairs):
            violations.add("metadata", f"is {shown(none)}; it is null alone, or metadata[key]=value")
        violations.raise_any()
        wanted = {_METADATA.sub(r"\1", key): value for key, value in pairs.items()}
        listing = JobListing(limit=limit, after=query.text("after") or None, metadata=None if none else wanted)
        found, has_more = await self.jobs.listed(current_tenant(), listing)
        return _page([job_object(job, base=self.base) for job in found], has_more=has_more)

    async def get(self, request: Request) -> Response:
        """`GET /v1/fine_tuning/jobs/{job}`."""
        return self._told(await self.jobs.get(current_tenant(), request.path_params["job"]))

    async def events(self, request: Request) -> Response:
        """`GET /v1/fine_tuning/jobs/{job}/events`, newest first."""
        job, limit, before = _part(request, "event", default=20)
        found = await self.jobs.events(current_tenant(), job, before=before, limit=limit + 1)
        return _page([event_object(one) for one in found[:limit]], has_more=len(found) > limit)

    async def checkpoints(self, request: Request) -> Response:
        """`GET /v1/fine_tuning/jobs/{job}/checkpoints`, newest first."""
        name, limit, before = _part(request, "checkpoint", default=10)
        job = await self.jobs.get(current_tenant(), name)
        found = await self.jobs.checkpoints(current_tenant(), name, before=before, limit=limit + 1)
        data = [checkpoint_object(one, job, base=self.base) for one in found[:limit]]
        return _page(data, has_more=len(found) > limit)

    def _asking(self, what: Move) -> Callable[[Request], Awaitable[Response]]:
        async def ask(request: Request) -> Response:
            job = await self.jobs.ask(current_tenant(), request.path_params["job"], what, request_id=None)
            return self._told(job)

        return ask

    def _told(self, job: Job) -> Response:
        return JsonResponse(job_object(job, base=self.base))


def _part(request: Request, what: str, *, default: int) -> tuple[str, int, int | None]:
    """The job, how many, and before which number. Raises `BadInput`."""
    violations = Violations()
    query: Fields = query_of(request, ("after", "limit"), violations)
    job, after = request.path_params["job"], query.text("after")
    limit, before = query.number("limit", default=default), number_of(after, job)
    if after and before is None:
        violations.add("after", f"is {shown(after)}, no id of this job's {what}s; give the last one of the page before")
    violations.raise_any()
    return job, limit, before


def _page(data: list[dict[str, Any]], *, has_more: bool) -> Response:
    ids = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return JsonResponse({"object": "list", "data": data, **ids, "has_more": has_more})
