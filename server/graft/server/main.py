"""A server from its start to its end: checks what can be checked early, assembles, waits, drains and closes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from fsspec import get_filesystem_class
from fsspec.core import split_protocol

from graft.server.api.addresses import listeners, reached, shown
from graft.server.assembly import Assembly, Server
from graft.server.engine.engine import EngineError
from graft.server.engine.factory import EngineFactory
from graft.server.engine.vllm.factory import VllmEngineFactory
from graft.server.operations import service_manager
from graft.server.operations.metrics import Metrics
from graft.server.operations.shutdown import Shutdown, kill_children_until_the_end
from graft.server.runtime.background import log_unseen
from graft.server.serving import Serving
from graft.server.settings.settings import Settings

_log = logging.getLogger(__name__)
# A later request to end may bring the end of the drain forward.
_DRAIN_STEP_SECONDS = 0.5


async def serve(
    settings: Settings,
    *,
    ready_file: Path | None = None,
    engines: EngineFactory | None = None,
    metrics: Metrics | None = None,
) -> int:
    """Serve until a signal or a `Drain`, drain, and return 0; 1 where a part of the server failed.

    A second signal ends the process at once, and what does not end in time ends it by force: see `Shutdown`.
    `ready_file` gets {host, grpc_port, http_port, pid} as JSON once requests are taken, and goes with the server.
    Raises what opening the catalog, the store, the base, the engine and the ports does.
    """
    check_ports(settings)
    check_folders(settings, ready_file)
    check_store(settings)
    asyncio.get_running_loop().set_exception_handler(log_unseen)
    with Shutdown(settings.drain_seconds) as shutdown:
        try:
            async with AsyncExitStack() as resources:
                assembly = Assembly(settings, engines or VllmEngineFactory(), metrics or Metrics(), resources)
                server = await _before(shutdown.asked, assembly.server(end=shutdown.ask, failed=shutdown.fail))
                if server is not None:
                    with _announced(server, settings.host, ready_file):
                        await shutdown.asked.wait()
                        service_manager.tell(service_manager.STOPPING)
                        await _drain(server.serving, shutdown)
        except Exception as error:
            if not shutdown.asked.is_set():
                raise
            _log.error("not everything was closed in order: %s", error, exc_info=error)
        finally:
            if shutdown.asked.is_set():
                kill_children_until_the_end()
    _log.info("stopped")
    return 0 if shutdown.failure is None else 1


def check_ports(settings: Settings) -> None:
    """Learn that a port is taken before the engine's half minute. Raises OSError."""
    for port in (settings.grpc_port, settings.http_port):
        for one in listeners(settings.host, port):
            one.close()


def check_folders(settings: Settings, ready_file: Path | None) -> None:
    """Learn that a folder cannot be used before the engine's half minute. Raises OSError."""
    try:
        settings.data_path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=settings.data_path).close()
    except OSError as error:
        problem = f"--data-dir {settings.data_path} cannot be used: {error.strerror or error}"
        raise OSError(f"{problem}; name a folder that can be written") from None
    if ready_file is not None and not ready_file.absolute().parent.is_dir():
        raise OSError(f"--ready-file {ready_file} cannot be written: its folder does not exist; make it first")


def check_store(settings: Settings) -> None:
    """Learn that nothing reads such a store before the base is read. Raises OSError; nothing is connected to."""
    if not settings.store_url:
        return
    scheme = split_protocol(settings.store_url)[0] or "file"
    try:
        get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        problem = f"--store-url {scheme}://… cannot be used: {error}"
        raise OSError(f"{problem}; give a folder or an fsspec URL, and install what its protocol needs") from None


async def _before(asked: asyncio.Event, opening: Coroutine[Any, Any, Server]) -> Server | None:
    """The open server; None where a request to end came first, which ends what is being opened."""
    server = asyncio.ensure_future(opening)
    waiting = asyncio.ensure_future(asked.wait())
    await asyncio.wait({server, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if server.done():
        return server.result()
    kill_children_until_the_end()
    server.cancel()
    with contextlib.suppress(EngineError, asyncio.CancelledError):
        await server
    return None


async def _drain(serving: Serving, shutdown: Shutdown) -> None:
    _log.info("draining for %.3g s at most", max(0.0, shutdown.deadline - monotonic()))
    num_unfinished = 1
    while num_unfinished and (left := shutdown.deadline - monotonic()) > 0:
        num_unfinished = await serving.drain(min(left, _DRAIN_STEP_SECONDS))
    num_unfinished = await serving.drain(0.0)
    if num_unfinished:
        _log.warning("%d requests were still running at the end of the drain time", num_unfinished)
        serving.end()


@contextmanager
def _announced(server: Server, host: str, ready_file: Path | None) -> Iterator[None]:
    ports = server.ports
    if ready_file is not None:
        facts = {"host": reached(host), "grpc_port": ports.grpc, "http_port": ports.http, "pid": os.getpid()}
        _write_whole(ready_file, json.dumps(facts) + "\n")
    print(
        f"graft: ready: {server.base.name} ({server.form}) "
        f"on gRPC {shown(host, ports.grpc)} and http://{shown(host, ports.http)}/v1",
        flush=True,
    )
    service_manager.tell(service_manager.READY)
    try:
        yield
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


def _write_whole(path: Path, text: str) -> None:
    """Whoever waits for the file finds it complete."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as temporary:
        temporary.write(text)
    Path(temporary.name).replace(path)
