"""uvicorn inside the server's own event loop, without its signal handling."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from graft.server.api.addresses import listeners
from graft.server.background import watched

_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 75


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the composition root's: it drains both fronts before either closes.
        yield


class HttpServer:
    """Listens from `start` to `stop`; `failed` is told where it ceases to do so by itself."""

    def __init__(self, app: ASGIApp, *, failed: Callable[[str], None] = lambda reason: None) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
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
        self._task = watched(self._server.serve(sockets=sockets), "the HTTP front", ended=self._ended)
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
