"""The HTTP front that the SDK calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from graft.training.errors import TrainingError
from graft.training.service.learning.trainee import Learned, Moved
from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions.sampler import Sampler
from graft.training.service.sessions.served import Caller
from graft.training.service.sessions.session import SAMPLE, is_number
from graft.training.service.sessions.sessions import Sessions
from graft.training.service.sessions.training import Training
from graft.training.service.tinker import bodies
from graft.training.service.tinker.tensors import output_of, samples_of
from graft.training.service.tinker.verbs import Reply, Verbs

MAX_BODY_BYTES = 64 << 20
_PATIENCE_SECONDS = 30.0
"""That a caller is kept waiting for an answer: it gives up after 45."""
_PREFIX = "tml-"
_PROTOBUF = "application/x-protobuf"
_STATUS = {
    # 400, 409 and all from 500 on would be asked again and again.
    Kind.INVALID: 422,
    Kind.NOT_FOUND: 404,
    Kind.GONE: 410,
    Kind.FULL: 429,
    Kind.NO_ROOM: 429,
    Kind.UNKNOWN_CALLER: 401,
    Kind.UNAVAILABLE: 503,
}
_Verb = Callable[[Caller, bytes], Reply]


class TinkerFront:
    """Endpoints of an ASGI application."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions, self._verbs = sessions, Verbs(sessions)

    def app(self) -> Starlette:
        verbs = self._verbs
        posts: dict[str, _Verb] = {
            "client/config": verbs.config,
            "client/dynamic_config": verbs.dynamic_config,
            "create_session": verbs.create_session,
            "session_heartbeat": verbs.heartbeat,
            "create_model": verbs.create_model,
            "get_info": verbs.get_info,
            "forward_backward": verbs.forward_backward,
            "optim_step": verbs.optim_step,
            "save_weights": verbs.save_weights,
            "load_weights": verbs.load_weights,
            "save_weights_for_sampler": verbs.save_for_sampler,
            "create_sampling_session": verbs.create_sampling,
            "join_sampling_session": verbs.join_sampling,
            "asample": verbs.sample,
            "weights_info": verbs.weights_info,
            "telemetry": verbs.telemetry,
        }
        routes = [Route(f"/api/v1/{path}", self._posted(verb), methods=["POST"]) for path, verb in posts.items()]
        routes += [
            Route("/api/v1/healthz", _alive),
            Route("/api/v1/get_server_capabilities", self._told(lambda request: verbs.capabilities)),
            Route("/api/v1/samplers/{id}", self._told(lambda request: _of(verbs.sampler, request))),
            Route(
                "/api/v1/sessions/{id}/finish",
                self._told(lambda request: _of(verbs.finish, request)),
                methods=["POST"],
            ),
            Route("/api/v1/retrieve_future", self._refusing(self._retrieve), methods=["POST"]),
            Route("/{path:path}", _no_such_verb, methods=["GET", "POST", "PUT", "DELETE"]),
        ]
        return Starlette(routes=routes)

    def _posted(self, verb: _Verb) -> Callable[[Request], Awaitable[Response]]:
        return self._told(lambda request: verb)

    def _told(self, choose: Callable[[Request], _Verb]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            body, key = await _body(request), request.headers.get("X-API-Key")

            def act() -> Reply:
                return choose(request)(self._caller(key), body)

            return JSONResponse(await run_in_threadpool(act))

        return self._refusing(answer)

    async def _retrieve(self, request: Request) -> Response:
        id = bodies.read(bodies.Retrieve, await _body(request)).request_id
        caller = await run_in_threadpool(self._caller, request.headers.get("X-API-Key"))
        whose, _, number = id.rpartition(":")
        if not is_number(number):
            raise Refusal(Kind.NOT_FOUND, f"{id!r} is no request's id.")
        find = self._sessions.sampler if SAMPLE in whose else self._sessions.training
        asked: Training | Sampler = find(caller, whose)
        future = asked.answer(int(number))
        await asyncio.wait([asyncio.wrap_future(future)], timeout=_PATIENCE_SECONDS)
        if not future.done():
            told = {"type": "try_again", "request_id": id, "queue_state": "active"}
            return JSONResponse(told, status_code=408)
        response = _result(future.exception(), None if future.exception() else future.result())
        asked.hand_over(int(number))
        return response

    def _caller(self, key: str | None) -> Caller:
        """Whose key it is. Raises ``Refusal``."""
        if key is None or not key.startswith(_PREFIX):
            raise Refusal(
                Kind.UNKNOWN_CALLER, f"the key is missing: X-API-Key is {_PREFIX}, and the server's token behind."
            )
        return self._sessions.place.served.caller(key.removeprefix(_PREFIX) or None)

    def _refusing(self, act: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await act(request)
            except Refusal as refusal:
                retried = refusal.kind in (Kind.FULL, Kind.UNAVAILABLE)
                headers = {"Retry-After": "1"} if retried else {"x-should-retry": "false"}
                return JSONResponse({"detail": str(refusal)}, status_code=_STATUS[refusal.kind], headers=headers)

        return answer


def _result(error: BaseException | None, found: Any) -> Response:
    """What came of a request. One that failed is answered as such: asking again would change nothing."""
    if error is not None:
        told = str(error) if isinstance(error, TrainingError) else "the trainer failed: its log says how."
        is_users = isinstance(error, Refusal) and error.kind is not Kind.UNAVAILABLE
        return JSONResponse({"error": told, "category": "user" if is_users else "server"})
    if isinstance(found, Learned):
        return Response(output_of(found), media_type=_PROTOBUF)
    if isinstance(found, tuple):
        return Response(samples_of(*found), media_type=_PROTOBUF)
    if isinstance(found, Moved):
        return JSONResponse({"metrics": {"gradient_norm": found.gradient_norm}})
    return JSONResponse(found)


async def _body(request: Request) -> bytes:
    """Raises ``Refusal`` for one that is too large, before all of it is read."""
    parts, total = list[bytes](), 0
    async for part in request.stream():
        total += len(part)
        if total > MAX_BODY_BYTES:
            raise Refusal(Kind.INVALID, f"the body is larger than {MAX_BODY_BYTES} bytes: send it in parts.")
        parts.append(part)
    return b"".join(parts)


def _of(verb: Callable[[Caller, str], Reply], request: Request) -> _Verb:
    id: str = request.path_params["id"]
    return lambda caller, body: verb(caller, id)


async def _alive(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _no_such_verb(request: Request) -> Response:
    told = f"{request.method} {request.url.path} is not offered here: see what of tinker's wire is, in the README."
    return JSONResponse({"detail": told}, status_code=404, headers={"x-should-retry": "false"})
