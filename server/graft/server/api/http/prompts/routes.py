"""The paths of prompt programs. A name's `/` may stand as it is, or encoded as %2F."""

from __future__ import annotations

from starlette.routing import Route

from graft.server.api.http.prompts.langfuse import LangfuseRoutes, in_its_words
from graft.server.api.http.prompts.preview import PreviewRoute
from graft.server.api.http.prompts.prompts import PromptRoutes
from graft.server.prompting.running.programs import Programs

_OURS = "/v1/prompts"
_LANGFUSE = "/api/public/v2/prompts"


def prompt_routes(routes: PromptRoutes, programs: Programs) -> list[Route]:
    """The first that fits answers: longer paths stand before shorter ones."""
    theirs, previews = LangfuseRoutes(routes=routes), PreviewRoute(routes=routes, programs=programs)
    return [
        Route(_OURS, routes.list, methods=["GET"]),
        Route(_OURS, routes.create, methods=["POST"]),
        Route(f"{_OURS}/{{prompt:path}}/versions", routes.versions, methods=["GET"]),
        Route(f"{_OURS}/{{prompt:path}}/preview", previews.preview, methods=["POST"]),
        Route(f"{_OURS}/{{prompt:path}}/labels/{{label}}", routes.set_label, methods=["POST"]),
        Route(f"{_OURS}/{{prompt:path}}/labels/{{label}}", routes.delete_label, methods=["DELETE"]),
        Route(f"{_OURS}/{{prompt:path}}", routes.get, methods=["GET"]),
        Route(f"{_OURS}/{{prompt:path}}", routes.delete, methods=["DELETE"]),
        Route(_LANGFUSE, in_its_words(theirs.list), methods=["GET"]),
        Route(_LANGFUSE, in_its_words(theirs.create), methods=["POST"]),
        Route(f"{_LANGFUSE}/{{prompt:path}}/versions/{{version:int}}", in_its_words(theirs.update), methods=["PATCH"]),
        Route(f"{_LANGFUSE}/{{prompt:path}}", in_its_words(theirs.get), methods=["GET"]),
    ]
