"""`POST /v1/outcomes`: how good an answer was, which counts while a canary is compared with `stable`."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graft.server.api.http.body import BodyBudget, JsonResponse, json_object, read_body
from graft.server.api.http.prompts.fields import Fields
from graft.server.releases.draft import read_outcome
from graft.server.releases.releases import Releases
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations

_MAX_BODY_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class OutcomeRoutes:
    """Errors are raised as they are: the front turns them into OpenAI's object."""

    releases: Releases
    bodies: BodyBudget

    def routes(self) -> list[Route]:
        """The one path."""
        return [Route("/v1/outcomes", self.create, methods=["POST"])]

    async def create(self, request: Request) -> Response:
        """A reply's `id` (or the request's `x-request-id`) as `response`, and its `outcome` from 0 to 1."""
        with self.bodies.share() as take:
            raw = await read_body(request, max_bytes=_MAX_BODY_BYTES, take=take)
            violations = Violations()
            fields = Fields(json_object(raw), ("response", "outcome"), violations)
            response, outcome = read_outcome(fields.text("response"), fields.get("outcome"), violations)
        counted = await self.releases.outcome(current_tenant(), response, outcome)
        return JsonResponse({"object": "outcome", "response": response, "outcome": outcome, "counted": counted})
