"""uvicorn inside the server's own event loop, without its signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from graft.server.api.addresses import listeners
from graft.server.api.http.faults import error_object
from graft.server.runtime.background import watched

_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 75
_BODY = json.dumps(
    error_object(message="too many connections are open: try again", kind="server_error", code="server_overloaded")
).encode()
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are `Shutdown`'s: requests over gRPC and HTTP are drained before either server closes.
        yield


def _bounded(max_connections: int) -> type[H11Protocol]:
    """uvicorn's protocol, which answers a connection too many with a 503 before it reads from it."""

    class Bounded(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:
            if len(self.connections) >= max_connections:
                transport.write(_TOO_MANY)
                transport.close()
                return
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self in self.connections:
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self in self.connections:
                super().data_received(data)

        def eof_received(self) -> None:
            if self in self.connections:
                super().eof_received()

    return Bounded


class HttpServer:
    """Listens from `start` to `stop`, for so many connections at once; `failed` is told where it ceases by itself."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_connections: int = 4096,
        failed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=_bounded(max_connections),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
        )
        self._server = _Uvicorn(config)
        self._failed = failed
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError where the address cannot be taken."""
        sockets = listeners(host, port, backlog=_BACKLOG)
        for one in sockets:
            one.setblocking(False)
        self._task = watched(self._server.serve(sockets=sockets), "the HTTP server", ended=self._ended)
        return int(sockets[0].getsockname()[1])

    async def stop(self, *, grace_seconds: float) -> None:
        """Close the listener and, after the grace, what still runs."""
        if self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_seconds))
        self._server.should_exit = True
        await self._task

    def _ended(self, how: str) -> None:
        if not self._server.should_exit:
            self._failed(how)
