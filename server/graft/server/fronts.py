"""Both front doors over one set of rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import grpc.aio

from graft.server.api.bodies import BodyBudget
from graft.server.api.grpc.adapters import AdapterServicer
from graft.server.api.grpc.bases import BaseServicer
from graft.server.api.grpc.inference import InferenceServicer
from graft.server.api.grpc.info import Identity, ServerServicer
from graft.server.api.grpc.interceptors import Layers, limits_layer, log_layer, metrics_layer
from graft.server.api.grpc.server import GrpcServer
from graft.server.api.http.app import http_app
from graft.server.api.http.openai import OpenAIEndpoint, Verb
from graft.server.api.http.openai_fields import CHAT, COMPLETIONS, Endpoint
from graft.server.api.http.operations import Models, Operations
from graft.server.api.http.server import HttpServer
from graft.server.rooms import Rooms
from graft.v1 import (
    adapter_pb2,
    adapter_pb2_grpc,
    base_pb2,
    base_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
)

_MIB = 2**20
# Calls beside the admitted ones: adapter verbs, information, requests on their way to a refusal.
_SPARE_CALLS = 256
_STOP_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Fronts:
    """The listening servers and their ports."""

    grpc: GrpcServer
    http: HttpServer
    grpc_port: int
    http_port: int

    async def stop(self) -> None:
        """Close both; calls that still run are cancelled after a second."""
        await asyncio.gather(self.grpc.stop(grace_seconds=_STOP_SECONDS), self.http.stop(grace_seconds=_STOP_SECONDS))


async def open_fronts(
    rooms: Rooms,
    *,
    end: Callable[[float], None] = lambda drain_seconds: None,
    failed: Callable[[str], None] = lambda reason: None,
) -> Fronts:
    """Listen on both ports. Raises OSError where one cannot be taken; then none is left open.

    A caller of `Drain` asks for the server's `end`; a front that ceases to listen by itself has `failed`.
    """
    grpc_server, http_server = _grpc(rooms, end), _http(rooms, failed)
    settings = rooms.settings
    grpc_port = await grpc_server.start(settings.host, settings.grpc_port)
    try:
        http_port = await http_server.start(settings.host, settings.http_port)
    except OSError:
        await grpc_server.stop(grace_seconds=0)
        raise
    return Fronts(grpc=grpc_server, http=http_server, grpc_port=grpc_port, http_port=http_port)


def _grpc(rooms: Rooms, end: Callable[[float], None]) -> GrpcServer:
    settings = rooms.settings
    identity = Identity(
        base=rooms.base,
        form=rooms.form,
        max_running=settings.max_running,
        max_queued=settings.max_queued,
        max_adapter_bytes=settings.max_adapter_mib * _MIB,
        drain_seconds=settings.drain_seconds,
    )
    info = ServerServicer(
        identity,
        serving=rooms.serving,
        readiness=rooms.readiness,
        engine_info=rooms.facts,
        num_restarts=lambda: rooms.supervisor.num_restarts,
        end=end,
    )

    def add(server: grpc.aio.Server) -> None:
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(InferenceServicer(rooms.serving, rooms.text), server)
        adapter_pb2_grpc.add_AdapterServiceServicer_to_server(
            AdapterServicer(rooms.management, rooms.uploads, rooms.collection), server
        )
        base_pb2_grpc.add_BaseServiceServicer_to_server(BaseServicer(rooms.base_uploads), server)
        server_pb2_grpc.add_ServerServiceServicer_to_server(info, server)

    max_calls = settings.max_running + settings.max_queued + _SPARE_CALLS
    layers = Layers(
        limits_layer(rooms.metrics, max_calls=max_calls),
        log_layer(),
        metrics_layer(rooms.metrics),
        default_seconds=settings.control_deadline_seconds,
        write_seconds=settings.slow_reader_seconds,
    )
    files = (adapter_pb2, base_pb2, inference_pb2, server_pb2)
    services = [service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    return GrpcServer(
        add=add,
        services=services,
        interceptors=[layers],
        readiness=rooms.readiness,
        with_reflection=settings.reflection,
        max_calls=max_calls + _SPARE_CALLS,
    )


def _http(rooms: Rooms, failed: Callable[[str], None]) -> HttpServer:
    settings = rooms.settings
    bodies = BodyBudget(settings.max_bodies_mib * _MIB)

    def endpoint(endpoint: Endpoint, verb: Verb) -> OpenAIEndpoint:
        return OpenAIEndpoint(
            serving=rooms.serving,
            verb=verb,
            endpoint=endpoint,
            text=rooms.text,
            max_body_bytes=settings.max_body_mib * _MIB,
            bodies=bodies,
            write_seconds=settings.slow_reader_seconds,
        )

    app = http_app(
        chat=endpoint(CHAT, rooms.openai.chat),
        completions=endpoint(COMPLETIONS, rooms.openai.completion),
        models=Models(rooms.registry, rooms.base),
        operations=Operations(readiness=rooms.readiness, metrics=rooms.metrics),
        metrics=rooms.metrics,
    )
    return HttpServer(app, max_connections=settings.max_connections, failed=failed)
