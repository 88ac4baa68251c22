"""`ReleaseService`: each call is one verb of `Releases`."""

from __future__ import annotations

from graft.adapters.catalog.paging import page_limit, read_token, write_token
from graft.server.api.grpc.releases.messages import (
    read_canary_message,
    read_gate_message,
    read_report,
    rollout_message,
)
from graft.server.api.grpc.types import Context
from graft.server.api.grpc.uploads import request_id_of
from graft.server.errors import Forbidden
from graft.server.jobs.jobs import Jobs
from graft.server.releases.draft import check_report, read_outcome
from graft.server.releases.releases import Releases
from graft.server.runtime.tenant import acting_job, check_own_adapter, current_tenant
from graft.server.runtime.violations import Violations, shown
from graft.v1 import release_pb2 as pb
from graft.v1 import release_pb2_grpc

_MAX_JOB_CHARACTERS = 128


class ReleaseServicer(release_pb2_grpc.ReleaseServiceServicer):
    """Errors are raised as they are: the interceptors turn them into a status."""

    def __init__(self, releases: Releases, jobs: Jobs) -> None:
        self._releases = releases
        self._jobs = jobs

    async def DecideRollout(self, request: pb.DecideRolloutRequest, context: Context) -> pb.DecideRolloutResponse:
        violations = Violations()
        check_own_adapter(request.adapter)
        # A worker reports what it measured; what that has to be is its job's to say.
        own = None if (acting := acting_job()) is None else await self._jobs.get(current_tenant(), acting.id)
        if own is None:
            job, spec = request.job, read_gate_message(request.gate, violations, "gate")
        elif own.spec.gate is None:
            raise Forbidden(f"{own.id} has no gate by which anything could be decided")
        else:
            job, spec = own.id, own.spec.gate
            if request.job not in ("", job):
                violations.add("job", f"is {shown(request.job)}, and the call is made for {job}")
        report = read_report(request.report)
        check_report(report, violations)
        if len(job) > _MAX_JOB_CHARACTERS:
            violations.add("job", f"has {len(job)} characters; the limit is {_MAX_JOB_CHARACTERS}")
        violations.raise_any()
        rollout = await self._releases.decide(
            tenant=current_tenant(),
            adapter=request.adapter,
            version=request.version,
            spec=spec,
            report=report,
            job=job or None,
            request_id=request_id_of(request),
        )
        return pb.DecideRolloutResponse(rollout=rollout_message(rollout))

    async def BeginCanary(self, request: pb.BeginCanaryRequest, context: Context) -> pb.BeginCanaryResponse:
        violations = Violations()
        spec = read_canary_message(request.canary, violations, "canary")
        violations.raise_any()
        rollout = await self._releases.begin_canary(
            tenant=current_tenant(),
            adapter=request.adapter,
            version=request.version,
            spec=spec,
            request_id=request_id_of(request),
        )
        return pb.BeginCanaryResponse(rollout=rollout_message(rollout))

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Context) -> pb.GetRolloutResponse:
        return pb.GetRolloutResponse(
            rollout=rollout_message(await self._releases.get(current_tenant(), request.rollout))
        )

    async def ListRollouts(self, request: pb.ListRolloutsRequest, context: Context) -> pb.ListRolloutsResponse:
        scope, limit = ("rollouts", current_tenant(), request.adapter), page_limit(request.page_size)
        before = read_token(scope, request.page_token, str)
        found = await self._releases.listed(current_tenant(), request.adapter or None, before=before, limit=limit + 1)
        token = write_token(scope, found[limit - 1].id) if len(found) > limit else ""
        return pb.ListRolloutsResponse(rollouts=map(rollout_message, found[:limit]), next_page_token=token)

    async def PromoteRollout(self, request: pb.PromoteRolloutRequest, context: Context) -> pb.PromoteRolloutResponse:
        rollout = await self._releases.promote(current_tenant(), request.adapter, request_id=request_id_of(request))
        return pb.PromoteRolloutResponse(rollout=rollout_message(rollout))

    async def RollBack(self, request: pb.RollBackRequest, context: Context) -> pb.RollBackResponse:
        rollout = await self._releases.roll_back(current_tenant(), request.adapter, request_id=request_id_of(request))
        return pb.RollBackResponse(rollout=rollout_message(rollout))

    async def ReportOutcome(self, request: pb.ReportOutcomeRequest, context: Context) -> pb.ReportOutcomeResponse:
        response, outcome = read_outcome(request.response, request.outcome, Violations())
        counted = await self._releases.outcome(current_tenant(), response, outcome)
        return pb.ReportOutcomeResponse(counted=counted)
