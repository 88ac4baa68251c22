"""`/v1/prompts/{name}/preview`: what the model would read, with token counts; nothing is generated."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from graft.server.api.http.body import JsonResponse
from graft.server.api.http.programs.given import read_given
from graft.server.api.http.prompts.fields import Fields
from graft.server.api.http.prompts.prompts import PromptRoutes
from graft.server.prompting.catalog.prompt import PromptVersion
from graft.server.prompting.rendering.preview import Preview
from graft.server.prompting.running.programs import Programs
from graft.server.prompting.running.request import RunRequest
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations

_GIVEN = ("version", "label", "variables", "documents")


@dataclass(frozen=True, kw_only=True)
class PreviewRoute:
    """Answers one route."""

    routes: PromptRoutes
    programs: Programs

    async def preview(self, request: Request) -> Response:
        """`POST /v1/prompts/{name}/preview`: the version as for `GET`, with `variables` and `documents`."""
        body = await self.routes.read(request)
        violations = Violations()
        fields = Fields(body, _GIVEN, violations)
        number = fields.get("version")
        is_number = isinstance(number, int) and not isinstance(number, bool)
        named = str(number) if is_number else fields.text("version")
        given = read_given(body, violations)
        version = self.routes.found(request.path_params["prompt"], named, fields.text("label"), violations)
        # Beside the event loop: a program may have a megabyte.
        program = await asyncio.to_thread(lambda: version.program)
        asked = RunRequest(program=program, version=version, variables=given.variables, documents=given.documents)
        shown = await self.programs.preview(asked, tenant=current_tenant())
        return JsonResponse(_preview_object(version, shown, self.programs.context_size))


def _preview_object(version: PromptVersion, shown: Preview, max_model_tokens: int) -> dict[str, Any]:
    return {
        "id": version.prompt,
        "object": "prompt.preview",
        "version": str(version.number),
        "digest": version.digest,
        "parts": [{"kind": one.kind, "text": one.text, "num_tokens": one.num_tokens} for one in shown.parts],
        "num_tokens": shown.num_tokens,
        "max_model_tokens": max_model_tokens,
        "shown_demonstrations": list(shown.shown),
        "dropped_demonstrations": list(shown.dropped),
        "notices": list(shown.notices),
        "variables": list(shown.variables),
    }
