"""A trainer from its settings: nobody else builds its parts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import uvicorn

from graft.adapters.base.base import Base, find_base
from graft.adapters.form import ServingForm
from graft.training.errors import ConfigurationError
from graft.training.job.publish import check_server
from graft.training.runtime.disk import replace_text
from graft.training.service.learning.computing import Computing
from graft.training.service.learning.held_base import HeldBase
from graft.training.service.rpc.servicer import Servicer
from graft.training.service.sessions.kept import Kept
from graft.training.service.sessions.limits import Limits
from graft.training.service.sessions.served import Served
from graft.training.service.sessions.sessions import Sessions
from graft.training.service.sessions.training import Place
from graft.training.service.tinker.app import MAX_BODY_BYTES, TinkerFront
from graft.v1.common_pb2 import ServingForm as FormNumber
from graft.v1.server_pb2 import GetInfoResponse
from graft.v1.train_pb2_grpc import add_TrainServiceServicer_to_server

_SWEEP_SECONDS, _GRACE_SECONDS = 5.0, 5.0


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Read once, by the command."""

    server: str
    """Of the one that samples: HOST:PORT."""
    work: Path
    """States lie here."""
    host: str = "127.0.0.1"
    http_port: int = 8480
    """0 takes a free one."""
    grpc_port: int = 8481
    base: str | None = None
    """Name or folder; None is what the server says that it serves."""
    limits: Limits = field(default_factory=Limits)
    ready_file: Path | None = None
    """Gets the ports as JSON, once requests are taken."""


def serve(settings: ServiceSettings) -> None:
    """Until SIGTERM or SIGINT. Raises ``ConfigurationError`` before anything is loaded."""
    info = check_server(settings.server, flag="--server")
    listening = _listening(settings.host, settings.http_port)
    held = HeldBase.load(_base(settings, info), _form(info), max_rank=info.limits.max_rank)
    limits = replace(settings.limits, max_text_tokens=info.limits.max_model_tokens)
    computing, served = Computing(), Served(settings.server)
    place = Place(held=held, computing=computing, served=served, kept=Kept(settings.work), limits=limits)
    sessions, over = Sessions(place), threading.Event()
    sweeping = threading.Thread(target=_sweep, args=(sessions, over), name="sweeping", daemon=True)
    computing.start()
    sweeping.start()
    try:
        asyncio.run(_answer(settings, sessions, listening))
    finally:
        over.set()
        served.hurry()
        sessions.close()
        computing.stop()
        served.close()


async def _answer(settings: ServiceSettings, sessions: Sessions, listening: socket.socket) -> None:
    """On both ports, until a signal."""
    http = _Http(
        uvicorn.Config(
            TinkerFront(sessions).app(),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=round(_GRACE_SECONDS),
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, http.end)
    options = [("grpc.max_receive_message_length", MAX_BODY_BYTES), ("grpc.max_send_message_length", MAX_BODY_BYTES)]
    rpc = grpc.aio.server(options=options)
    add_TrainServiceServicer_to_server(Servicer(sessions), rpc)
    address = f"{settings.host}:{settings.grpc_port}"
    try:
        grpc_port = rpc.add_insecure_port(address)
    except RuntimeError:
        raise ConfigurationError(
            f"--grpc-port {settings.grpc_port} on {settings.host} cannot be had: take another."
        ) from None
    await rpc.start()
    http_port, held = listening.getsockname()[1], sessions.place.held
    if settings.ready_file is not None:
        replace_text(settings.ready_file, json.dumps({"http_port": http_port, "grpc_port": grpc_port}))
    where = f"gRPC on {settings.host}:{grpc_port}, tinker's wire on http://{settings.host}:{http_port}"
    print(f"{held.base.name} as {held.form}: {where}", flush=True)
    try:
        await http.serve(sockets=[listening])
    finally:
        # Nobody waits for the server that samples any more, and turns that wait for their answers are refused, so
        # that no call is left.
        sessions.place.served.hurry()
        sessions.close()
        await rpc.stop(grace=_GRACE_SECONDS)


class _Http(uvicorn.Server):
    """Signals are its starter's, which has more to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        self.should_exit = True


def _sweep(sessions: Sessions, over: threading.Event) -> None:
    while not over.wait(_SWEEP_SECONDS):
        sessions.sweep()


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise ConfigurationError(
            f"--http-port {port} on {host} cannot be had ({error.strerror}): take another."
        ) from None


def _base(settings: ServiceSettings, info: GetInfoResponse) -> Base:
    """The server's own. Raises ``ConfigurationError``, ``InvalidBase``."""
    base = Base.from_folder(find_base(settings.base or info.base.name))
    if base.digest != info.base.digest:
        raise ConfigurationError(
            f"--base {base.name} is another than what {settings.server} serves, {info.base.name}: adapters of the one "
            "are none of the other. Name the folder that the server was started on."
        )
    return base


def _form(info: GetInfoResponse) -> ServingForm:
    return ServingForm[FormNumber.Name(info.form).removeprefix("SERVING_FORM_")]
