"""Both doors, gRPC and HTTP: what each bounds, and their ports, which are opened and closed together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from graft.server.api.bodies import BodyBudget
from graft.server.api.grpc.interceptors import Layers, limits_layer, log_layer, metrics_layer
from graft.server.api.grpc.server import GrpcServer, Servicers
from graft.server.api.http.app import http_app
from graft.server.api.http.openai import OpenAIEndpoint
from graft.server.api.http.openai_fields import CHAT, COMPLETIONS, Endpoint
from graft.server.api.http.operations import Models, Operations
from graft.server.api.http.server import HttpServer
from graft.server.api.tenants import Identify
from graft.server.engine.text import Text
from graft.server.operations.metrics import Metrics
from graft.server.operations.readiness import Readiness
from graft.server.serving import Serving
from graft.server.settings.settings import Settings

_MIB = 2**20
# Calls beside the admitted ones: adapter verbs, information, requests on their way to a refusal.
_SPARE_CALLS = 256
_STOP_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the doors are open."""

    grpc: int
    http: int


@asynccontextmanager
async def open_doors(grpc: GrpcServer, http: HttpServer, settings: Settings) -> AsyncIterator[Ports]:
    """Listen on both ports; in the end close both, where calls that still run are cancelled after a second.

    Raises OSError where a port cannot be taken; then none is left open.
    """
    try:
        grpc_port = await grpc.start(settings.host, settings.grpc_port)
        yield Ports(grpc=grpc_port, http=await http.start(settings.host, settings.http_port))
    finally:
        await asyncio.gather(grpc.stop(grace_seconds=_STOP_SECONDS), http.stop(grace_seconds=_STOP_SECONDS))


def grpc_door(
    servicers: Servicers, settings: Settings, *, identify: Identify, readiness: Readiness, metrics: Metrics
) -> GrpcServer:
    """The servicers behind limits, log and metrics."""
    max_calls = settings.max_running + settings.max_queued + _SPARE_CALLS
    layers = Layers(
        limits_layer(metrics, max_calls=max_calls),
        log_layer(),
        metrics_layer(metrics),
        identify=identify,
        default_seconds=settings.control_deadline_seconds,
        write_seconds=settings.slow_reader_seconds,
    )
    return GrpcServer(
        servicers,
        interceptors=[layers],
        readiness=readiness,
        with_reflection=settings.reflection,
        max_calls=max_calls + _SPARE_CALLS,
    )


def http_door(
    settings: Settings,
    *,
    serving: Serving,
    text: Text,
    models: Models,
    identify: Identify,
    readiness: Readiness,
    metrics: Metrics,
    failed: Callable[[str], None],
) -> HttpServer:
    """OpenAI's routes, probes and metrics; `failed` hears where the server ceases to listen by itself."""
    bodies = BodyBudget(settings.max_bodies_mib * _MIB)

    def endpoint(endpoint: Endpoint) -> OpenAIEndpoint:
        return OpenAIEndpoint(
            serving=serving,
            endpoint=endpoint,
            text=text,
            max_body_bytes=settings.max_body_mib * _MIB,
            bodies=bodies,
            write_seconds=settings.slow_reader_seconds,
        )

    app = http_app(
        chat=endpoint(CHAT),
        completions=endpoint(COMPLETIONS),
        models=models,
        operations=Operations(readiness=readiness, metrics=metrics),
        metrics=metrics,
        identify=identify,
    )
    return HttpServer(app, max_connections=settings.max_connections, failed=failed)
