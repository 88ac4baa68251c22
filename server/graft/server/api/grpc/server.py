"""The gRPC server with its limits, health and reflection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from graft.server.api.addresses import shown
from graft.server.api.grpc.adapters import AdapterServicer
from graft.server.api.grpc.bases import BaseServicer
from graft.server.api.grpc.fine_tuning.acting import Acting
from graft.server.api.grpc.fine_tuning.files import FileServicer
from graft.server.api.grpc.fine_tuning.jobs import JobServicer
from graft.server.api.grpc.grading.servicer import GradingServicer
from graft.server.api.grpc.inference import InferenceServicer
from graft.server.api.grpc.info import ServerServicer
from graft.server.api.grpc.prompts.servicer import PromptServicer
from graft.server.api.grpc.releases.servicer import ReleaseServicer
from graft.server.operations.readiness import Readiness
from graft.server.runtime.background import watched
from graft.v1 import (
    adapter_pb2,
    adapter_pb2_grpc,
    base_pb2,
    base_pb2_grpc,
    file_pb2,
    file_pb2_grpc,
    grading_pb2,
    grading_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    prompt_pb2,
    prompt_pb2_grpc,
    release_pb2,
    release_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
)

MAX_MESSAGE_BYTES = 16 * 2**20
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 2**10),
    ("grpc.max_concurrent_streams", 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # Long-lived clients come back now and then, so that new replicas get their share.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 10 * 60_000),
    # A taken port is an error, not a second server on it.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, kw_only=True)
class Servicers:
    """The services of `graft.v1`."""

    inference: InferenceServicer
    adapters: AdapterServicer
    bases: BaseServicer
    prompts: PromptServicer
    files: FileServicer
    jobs: JobServicer
    grading: GradingServicer
    releases: ReleaseServicer
    server: ServerServicer
    acting: Acting
    """Not a service: for which job a worker calls one."""

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        """Have the server answer for them; returns their full names."""
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self.inference, server)
        adapter_pb2_grpc.add_AdapterServiceServicer_to_server(self.adapters, server)
        base_pb2_grpc.add_BaseServiceServicer_to_server(self.bases, server)
        prompt_pb2_grpc.add_PromptServiceServicer_to_server(self.prompts, server)
        file_pb2_grpc.add_FileServiceServicer_to_server(self.files, server)
        job_pb2_grpc.add_JobServiceServicer_to_server(self.jobs, server)
        grading_pb2_grpc.add_GradingServiceServicer_to_server(self.grading, server)
        release_pb2_grpc.add_ReleaseServiceServicer_to_server(self.releases, server)
        server_pb2_grpc.add_ServerServiceServicer_to_server(self.server, server)
        files = (
            adapter_pb2, base_pb2, file_pb2, grading_pb2, inference_pb2, job_pb2, prompt_pb2, release_pb2, server_pb2,
        )  # fmt: skip
        return [service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values()]


class GrpcServer:
    """Listens from `start` to `stop`. Health and reflection tell the services' names."""

    def __init__(
        self,
        servicers: Servicers,
        *,
        front: grpc.aio.ServerInterceptor,
        readiness: Readiness,
        with_reflection: bool,
        max_calls: int,
    ) -> None:
        # Beyond `max_calls` (those that wait for news of health are among them), the library itself refuses.
        self._server = grpc.aio.server(interceptors=[front], options=OPTIONS, maximum_concurrent_rpcs=max_calls)
        services = servicers.add_to(self._server)
        self._services = ("", *services)
        self._health = health.aio.HealthServicer()
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling = asyncio.Lock()
        self._readiness = readiness
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if with_reflection:
            names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError where the address cannot be taken."""
        address = shown(host, port)
        try:
            chosen = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from None
        await self._server.start()
        self._readiness.subscribe(self._changed)
        return chosen

    async def stop(self, *, grace_seconds: float) -> None:
        """Take no new calls; cancel what still runs after the grace."""
        await self._server.stop(grace_seconds)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _changed(self, ready: bool) -> None:
        task = watched(self._tell(_SERVING if ready else _NOT_SERVING), "telling those who watch the health")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        # One change after the other, or the last to finish could be the older one.
        async with self._telling:
            for service in self._services:
                await self._health.set(service, status)
