"""The HTTP front: our routes only, every error in OpenAI's form, one log line and one count per request."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graft.server.api import tenants
from graft.server.api.faults import fault_of
from graft.server.api.http.body import JsonResponse
from graft.server.api.http.classify import ClassifyEndpoint
from graft.server.api.http.faults import error_object, error_response
from graft.server.api.http.files.files import FileRoutes
from graft.server.api.http.fine_tuning.jobs import JobRoutes
from graft.server.api.http.graders import GraderRoutes
from graft.server.api.http.openai import OpenAIEndpoint
from graft.server.api.http.operations import Models, Operations
from graft.server.api.http.outcomes import OutcomeRoutes
from graft.server.api.http.prompts.prompts import PromptRoutes
from graft.server.api.http.prompts.routes import prompt_routes
from graft.server.api.http.responses.endpoint import ResponsesEndpoint
from graft.server.api.http.sse import ClientGone
from graft.server.api.tenants import Identify
from graft.server.errors import SlowReader
from graft.server.operations.logs import HEADER, named
from graft.server.operations.metrics import Metrics
from graft.server.prompting.running.programs import Programs
from graft.server.runtime import session
from graft.server.runtime.session import in_session
from graft.server.runtime.tenant import on_behalf_of

_log = logging.getLogger("graft.access")
# Asked every few seconds by machines: no requests, and no news.
_PROBES = frozenset({"/metrics", "/livez", "/readyz"})
_OUTCOMES = {400: "invalid_argument", 403: "permission_denied", 404: "not_found", 405: "not_found"}


def http_app(
    *,
    chat: OpenAIEndpoint,
    completions: OpenAIEndpoint,
    responses: ResponsesEndpoint,
    classify: ClassifyEndpoint,
    models: Models,
    graders: GraderRoutes,
    prompts: PromptRoutes,
    programs: Programs,
    files: FileRoutes,
    jobs: JobRoutes,
    outcomes: OutcomeRoutes,
    operations: Operations,
    metrics: Metrics,
    identify: Identify,
) -> ASGIApp:
    """The application: these routes and no others."""
    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/responses", responses, methods=["POST"]),
        Route("/v1/classify", classify, methods=["POST"]),
        Route("/v1/models", models.list),
        Route("/v1/models/{model:path}", models.get),
        *graders.routes(),
        *prompt_routes(prompts, programs),
        *files.routes(),
        *jobs.routes(),
        *outcomes.routes(),
        Route("/metrics", operations.scrape),
        Route("/livez", operations.live),
        Route("/readyz", operations.ready),
    ]
    # Inside Starlette's own catch-all, which would answer every error of ours with a bare 500.
    front = Middleware(Front, metrics=metrics, identify=identify)
    app = Starlette(routes=routes, middleware=[front], exception_handlers={HTTPException: _no_such_route})
    app.router.redirect_slashes = False
    return app


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    known: Mapping[int, tuple[str, str]] = {
        404: (f"there is no {request.url.path}", "unknown_url"),
        405: (f"{request.url.path} does not take {request.method}", "method_not_allowed"),
    }
    message, code = known.get(status, (str(error), "http_error"))
    headers = error.headers if isinstance(error, HTTPException) else None
    body = error_object(message=message, kind="invalid_request_error", code=code)
    return JsonResponse(body, status_code=status, headers=headers)


class Front:
    """Around every request: its id, its tenant, the error table, the log line and the count."""

    def __init__(self, app: ASGIApp, metrics: Metrics, identify: Identify) -> None:
        self._app = app
        self._metrics = metrics
        self._identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"only http is served here, not {scope['type']}")
        with named(Headers(scope=scope).get(HEADER)) as request_id:
            await self._exchange(scope, receive, _Exchange(scope, send, request_id))

    async def _exchange(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        outcome = "cancelled"
        try:
            await self._answer(scope, receive, exchange)
            outcome = exchange.outcome
        except ClientGone:
            _log.debug("the caller left")
        except SlowReader as error:
            # Returning from an unfinished response makes uvicorn close the connection.
            outcome = fault_of(error).outcome
        finally:
            if scope["path"] not in _PROBES:
                self._ended(exchange, outcome)

    def _ended(self, exchange: _Exchange, outcome: str) -> None:
        self._metrics.requests.labels(front="http", outcome=outcome, tenant=exchange.tenant).inc()
        path = exchange.scope["path"] if exchange.status != 404 else "(unknown)"
        seconds = monotonic() - exchange.start
        _log.info("http %s %s %s %.3fs", exchange.scope["method"], path, outcome, seconds)

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            if scope["path"] not in _PROBES:
                exchange.tenant = self._identify(Headers(scope=scope).get(tenants.HEADER))
            with on_behalf_of(exchange.tenant), in_session(Headers(scope=scope).get(session.HEADER)):
                await self._app(scope, receive, exchange.send)
        except (ClientGone, SlowReader):
            raise
        except Exception as error:
            if exchange.status is not None:
                raise
            fault = fault_of(error)
            await error_response(fault)(scope, receive, exchange.send)
            exchange.scope["state"]["outcome"] = fault.outcome


class _Exchange:
    """One request and what became of it. Its tenant is empty until it is known; a probe has none."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self.scope = scope
        self.scope["state"] = {}
        self.start = monotonic()
        self.status: int | None = None
        self.tenant = ""
        self._request_id = request_id
        self._send = send

    @property
    def outcome(self) -> str:
        """What the request's state says (a stream may fail behind a 200), else what its status means."""
        told: str | None = self.scope["state"].get("outcome")
        if told is not None:
            return told
        if self.status is None or self.status >= 500:
            return "internal"
        return "ok" if self.status < 400 else _OUTCOMES.get(self.status, "invalid_argument")

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (HEADER.encode(), self._request_id.encode())]
            message = {**message, "headers": headers}
        await self._send(message)
