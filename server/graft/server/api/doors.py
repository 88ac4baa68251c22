"""Both doors, gRPC and HTTP: what each bounds, and their ports, which are opened and closed together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from graft.server.api.grpc.interceptors import Front
from graft.server.api.grpc.server import GrpcServer, Servicers
from graft.server.api.http.app import http_app
from graft.server.api.http.body import BodyBudget
from graft.server.api.http.classify import ClassifyEndpoint
from graft.server.api.http.files.files import FileRoutes
from graft.server.api.http.fine_tuning.jobs import JobRoutes
from graft.server.api.http.graders import GraderRoutes
from graft.server.api.http.openai import OpenAIEndpoint
from graft.server.api.http.openai_fields import CHAT, COMPLETIONS
from graft.server.api.http.operations import Models, Operations
from graft.server.api.http.outcomes import OutcomeRoutes
from graft.server.api.http.prompts.prompts import PromptRoutes
from graft.server.api.http.responses.endpoint import ResponsesEndpoint
from graft.server.api.http.server import HttpServer
from graft.server.api.tenants import Identify
from graft.server.engine.text import Text
from graft.server.files.files import Files
from graft.server.grading.grading import Grading
from graft.server.jobs.jobs import Jobs
from graft.server.operations.metrics import Metrics
from graft.server.operations.readiness import Readiness
from graft.server.prompting.running.programs import Programs
from graft.server.releases.releases import Releases
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


@dataclass(frozen=True)
class Doors:
    """gRPC and HTTP, to be opened."""

    settings: Settings
    identify: Identify
    readiness: Readiness
    metrics: Metrics

    @asynccontextmanager
    async def open(
        self,
        servicers: Servicers,
        serving: Serving,
        text: Text,
        models: Models,
        programs: Programs,
        files: Files,
        jobs: Jobs,
        grading: Grading,
        releases: Releases,
        *,
        failed: Callable[[str], None],
    ) -> AsyncIterator[Ports]:
        """Listen on both ports; in the end close both, where calls that still run are cancelled after a second.

        `failed` hears where HTTP ceases to be listened to. Raises OSError where a port cannot be taken; then none is
        left open.
        """
        grpc = self._grpc(servicers)
        http = self._http(serving, text, models, programs, files, jobs, grading, releases, failed)
        host = self.settings.host
        try:
            grpc_port = await grpc.start(host, self.settings.grpc_port)
            yield Ports(grpc=grpc_port, http=await http.start(host, self.settings.http_port))
        finally:
            await asyncio.gather(grpc.stop(grace_seconds=_STOP_SECONDS), http.stop(grace_seconds=_STOP_SECONDS))

    def _grpc(self, servicers: Servicers) -> GrpcServer:
        settings = self.settings
        max_calls = settings.max_running + settings.max_queued + _SPARE_CALLS
        front = Front(
            self.metrics,
            self.identify,
            servicers.acting,
            max_calls=max_calls,
            default_seconds=settings.control_deadline_seconds,
            write_seconds=settings.slow_reader_seconds,
        )
        return GrpcServer(
            servicers,
            front=front,
            readiness=self.readiness,
            with_reflection=settings.reflection,
            max_calls=max_calls + _SPARE_CALLS,
        )

    def _http(
        self,
        serving: Serving,
        text: Text,
        models: Models,
        programs: Programs,
        files: Files,
        jobs: Jobs,
        grading: Grading,
        releases: Releases,
        failed: Callable[[str], None],
    ) -> HttpServer:
        """OpenAI's routes, probes and metrics."""
        settings = self.settings
        bodies = BodyBudget(settings.max_bodies_mib * _MIB)
        chat, completions = (
            OpenAIEndpoint(
                serving=serving,
                endpoint=endpoint,
                text=text,
                max_body_bytes=settings.max_body_mib * _MIB,
                bodies=bodies,
                write_seconds=settings.slow_reader_seconds,
                programs=programs,
            )
            for endpoint in (CHAT, COMPLETIONS)
        )
        responses = ResponsesEndpoint(
            serving=serving,
            text=text,
            max_body_bytes=settings.max_body_mib * _MIB,
            bodies=bodies,
            write_seconds=settings.slow_reader_seconds,
            programs=programs,
        )
        classify = ClassifyEndpoint(
            serving=serving, text=text, max_body_bytes=settings.max_body_mib * _MIB, bodies=bodies
        )
        app = http_app(
            chat=chat,
            completions=completions,
            responses=responses,
            classify=classify,
            models=models,
            graders=GraderRoutes(grading=grading, max_body_bytes=settings.max_body_mib * _MIB, bodies=bodies),
            prompts=PromptRoutes(prompts=programs.prompts, bodies=bodies),
            programs=programs,
            files=FileRoutes(
                files=files, max_bytes=settings.max_file_mib * _MIB, write_seconds=settings.slow_reader_seconds
            ),
            jobs=JobRoutes(jobs=jobs, grading=grading, bodies=bodies, base=models.base_name),
            outcomes=OutcomeRoutes(releases=releases, bodies=bodies),
            operations=Operations(readiness=self.readiness, metrics=self.metrics),
            metrics=self.metrics,
            identify=self.identify,
        )
        return HttpServer(app, max_connections=settings.max_connections, failed=failed)
