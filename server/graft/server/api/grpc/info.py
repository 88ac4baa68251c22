"""`ServerService`: what this server is, and its drain."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.server.api.grpc.inference_messages import form_message
from graft.server.api.grpc.types import Context
from graft.server.api.grpc.uploads import request_id_of
from graft.server.engine.supervisor import Supervisor
from graft.server.registry.replays import Replays
from graft.server.runtime.tenant import current_tenant
from graft.server.serving import Serving
from graft.server.settings.settings import Settings
from graft.v1 import server_pb2 as pb
from graft.v1 import server_pb2_grpc


class ServerServicer(server_pb2_grpc.ServerServiceServicer):
    """`end` takes the time to drain, and ends the server after it."""

    def __init__(
        self,
        settings: Settings,
        base: Base,
        form: ServingForm,
        serving: Serving,
        supervisor: Supervisor,
        *,
        end: Callable[[float], None],
    ) -> None:
        self._settings = settings
        self._base = base
        self._form = form
        self._serving = serving
        self._supervisor = supervisor
        self._end = end
        self._replays = Replays()

    async def GetInfo(self, request: pb.GetInfoRequest, context: Context) -> pb.GetInfoResponse:
        settings, readiness = self._settings, self._serving.readiness
        engine = await self._supervisor.last_info()
        limits = pb.Limits(
            max_model_tokens=engine.max_model_tokens,
            max_rank=engine.max_rank,
            num_slots=engine.num_slots,
            max_running=settings.max_running,
            max_queued=settings.max_queued,
            max_adapter_bytes=settings.max_adapter_mib * 2**20,
            max_labels=engine.max_labels,
        )
        return pb.GetInfoResponse(
            version=version("graftserve"),
            base=_base_message(self._base),
            form=form_message(self._form),
            limits=limits,
            engine_pid=engine.pid,
            engine_restarts=self._supervisor.num_restarts,
            ready=readiness.ready,
            draining=readiness.draining,
            not_ready_reason=readiness.why,
            engine_version=engine.engine_version,
            lora_kernel=engine.lora_kernel,
            instruction_sets=engine.instruction_sets,
        )

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        given = request.HasField("timeout")
        seconds = max(0.0, request.timeout.ToMicroseconds() / 1e6) if given else self._settings.drain_seconds

        async def drain() -> int:
            # The server ends whether or not the caller stays to hear it.
            self._end(seconds)
            return await self._serving.drain(seconds)

        return pb.DrainResponse(
            num_unfinished=await self._replays.once(
                request_id_of(request), ("Drain", seconds), drain, tenant=current_tenant()
            )
        )


def _base_message(base: Base) -> pb.Base:
    identity = base.identity
    return pb.Base(
        name=identity.name,
        digest=identity.digest,
        weights_digest=identity.weights_digest,
        tokenizer_digest=identity.tokenizer_digest,
        chat_template_digest=identity.chat_template_digest or "",
        num_parameters=base.num_parameters,
        config_digest=identity.config_digest or "",
    )
