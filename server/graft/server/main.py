"""The composition root: reads nothing but its settings, opens the rooms, opens the fronts, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from graft.server.api.addresses import listeners, shown
from graft.server.engine.engine import EngineError
from graft.server.fronts import Fronts, open_fronts
from graft.server.machinery import Machinery, VllmMachinery
from graft.server.metrics import Metrics
from graft.server.rooms import Rooms, open_rooms
from graft.server.settings import Settings
from graft.server.shutdown import Shutdown, kill_children

_log = logging.getLogger(__name__)


async def serve(
    settings: Settings,
    *,
    ready_file: Path | None = None,
    machinery: Machinery | None = None,
    metrics: Metrics | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, drain, and return the exit code 0. A second signal ends the process at once.

    `ready_file` gets {grpc_port, http_port, pid} as JSON once requests are taken, and goes with the server.
    Raises what opening the catalog, the store, the base, the engine and the ports does.
    """
    check_ports(settings)
    check_folders(settings, ready_file)
    with Shutdown() as shutdown:
        async with AsyncExitStack() as resources:
            opening = asyncio.ensure_future(
                open_rooms(settings, machinery or VllmMachinery(), metrics or Metrics(), resources)
            )
            if not await _before(shutdown.asked, opening):
                await _give_up(opening)
                return 0
            rooms = opening.result()
            fronts = await open_fronts(rooms)
            resources.push_async_callback(fronts.stop)
            with _announced(rooms, fronts, ready_file):
                await shutdown.asked.wait()
                await _drain(rooms)
    _log.info("stopped")
    return 0


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


async def _before(asked: asyncio.Event, opening: asyncio.Future[Rooms]) -> bool:
    """Whether the rooms were open, or failed to, before a signal came."""
    waiting = asyncio.ensure_future(asked.wait())
    either: set[asyncio.Future[Any]] = {opening, waiting}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return opening.done()


async def _give_up(opening: asyncio.Future[Rooms]) -> None:
    # The engine starts in a thread, which cannot be cancelled; it fails once its process is gone, which may come yet.
    while not opening.done():
        kill_children()
        await asyncio.wait((opening,), timeout=0.2)
    with contextlib.suppress(EngineError, asyncio.CancelledError):
        await opening


async def _drain(rooms: Rooms) -> None:
    _log.info("draining for %g s at most", rooms.settings.drain_seconds)
    num_unfinished = await rooms.serving.drain(rooms.settings.drain_seconds)
    if num_unfinished:
        _log.warning("%d requests were still running at the end of the drain time", num_unfinished)


@contextmanager
def _announced(rooms: Rooms, fronts: Fronts, ready_file: Path | None) -> Iterator[None]:
    host = rooms.settings.host
    if ready_file is not None:
        facts = {"grpc_port": fronts.grpc_port, "http_port": fronts.http_port, "pid": os.getpid()}
        _write_whole(ready_file, json.dumps(facts) + "\n")
    print(
        f"graft: ready: {rooms.base.name} ({rooms.form}) "
        f"on gRPC {shown(host, fronts.grpc_port)} and http://{shown(host, fronts.http_port)}/v1",
        flush=True,
    )
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
