"""`JobService`: each call is one verb of `Jobs`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from graft.adapters.catalog.paging import page_limit, read_token, write_token
from graft.server.api.grpc.fine_tuning.acting import Workers
from graft.server.api.grpc.fine_tuning.job_messages import (
    STATES,
    checkpoint_message,
    event_message,
    job_message,
    read_checkpoint,
    read_news,
    read_outcome,
    read_progress,
    read_spec_message,
)
from graft.server.api.grpc.fine_tuning.plans import check_plan
from graft.server.api.grpc.types import Context
from graft.server.api.grpc.uploads import request_id_of
from graft.server.api.grpc.values import check_finite, read_seconds, read_struct
from graft.server.errors import BadInput, Violation
from graft.server.grading.for_jobs import check_job_grader
from graft.server.grading.grading import Grading
from graft.server.jobs.job import Job
from graft.server.jobs.jobs import Jobs
from graft.server.jobs.policy.states import Move
from graft.server.jobs.store.reads import JobListing
from graft.server.jobs.store.working import Holder, Outcome, Report
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations
from graft.v1 import job_pb2 as pb
from graft.v1 import job_pb2_grpc

_STATE_OF = {number: state for state, number in STATES.items()}
_MAX_WAIT_SECONDS = 60.0
_MAX_TOLD = 1_000
_MAX_MESSAGE_CHARACTERS = 10_000
_MAX_WORKER_CHARACTERS = 128
_MAX_CODE_CHARACTERS = 64
_MAX_STEP = 2**31 - 1


class JobServicer(job_pb2_grpc.JobServiceServicer):
    """Errors are raised as they are: the interceptors turn them into a status."""

    def __init__(self, jobs: Jobs, workers: Workers, grading: Grading, *, base: str) -> None:
        """`base` is what the served base is called."""
        self._jobs = jobs
        self._workers = workers
        self._grading = grading
        self._base = base

    async def CreateJob(self, request: pb.CreateJobRequest, context: Context) -> pb.CreateJobResponse:
        violations = Violations()
        if request.spec.HasField("grader"):
            said = read_struct(request.spec.grader, "spec.grader", Violations())
            await check_job_grader(said, self._grading, violations, field="spec.grader")
        if request.spec.gate.HasField("grader"):
            said = read_struct(request.spec.gate.grader, "spec.gate.grader", Violations())
            await check_job_grader(said, self._grading, violations, field="spec.gate.grader")
        spec = read_spec_message(request.spec, violations)
        job = await self._jobs.create(spec, tenant=current_tenant(), request_id=request_id_of(request))
        return pb.CreateJobResponse(job=self._told(job))

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        return pb.GetJobResponse(job=self._told(await self._jobs.get(current_tenant(), request.job)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        if request.state and request.state not in _STATE_OF:
            problem = f"is {request.state}; this server knows {', '.join(state.value for state in STATES)}"
            raise BadInput(Violation(field="state", problem=problem))
        pairs = sorted(request.metadata.items())
        scope = ("jobs", current_tenant(), str(request.state), repr(pairs))
        listing = JobListing(
            limit=page_limit(request.page_size),
            after=read_token(scope, request.page_token, str),
            metadata=dict(pairs),
            state=_STATE_OF.get(request.state),
        )
        found, has_more = await self._jobs.listed(current_tenant(), listing)
        token = write_token(scope, found[-1].id) if has_more else ""
        return pb.ListJobsResponse(jobs=map(self._told, found), next_page_token=token)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        return pb.CancelJobResponse(job=await self._asked(request, Move.CANCEL))

    async def PauseJob(self, request: pb.PauseJobRequest, context: Context) -> pb.PauseJobResponse:
        return pb.PauseJobResponse(job=await self._asked(request, Move.PAUSE))

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Context) -> pb.ResumeJobResponse:
        return pb.ResumeJobResponse(job=await self._asked(request, Move.RESUME))

    async def ListJobEvents(self, request: pb.ListJobEventsRequest, context: Context) -> pb.ListJobEventsResponse:
        scope, limit = ("job_events", current_tenant(), request.job), page_limit(request.page_size)
        before = read_token(scope, request.page_token, int)
        found = await self._jobs.events(current_tenant(), request.job, before=before, limit=limit + 1)
        token = write_token(scope, found[limit - 1].number) if len(found) > limit else ""
        return pb.ListJobEventsResponse(events=map(event_message, found[:limit]), next_page_token=token)

    async def ListJobCheckpoints(
        self, request: pb.ListJobCheckpointsRequest, context: Context
    ) -> pb.ListJobCheckpointsResponse:
        scope, limit = ("job_checkpoints", current_tenant(), request.job), page_limit(request.page_size)
        before = read_token(scope, request.page_token, int)
        found = await self._jobs.checkpoints(current_tenant(), request.job, before=before, limit=limit + 1)
        token = write_token(scope, found[limit - 1].step) if len(found) > limit else ""
        return pb.ListJobCheckpointsResponse(checkpoints=map(checkpoint_message, found[:limit]), next_page_token=token)

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.WatchJobResponse]:
        watching = self._jobs.watch(current_tenant(), request.job, after=request.after_number)
        async with aclosing(watching) as events:
            async for event in events:
                yield pb.WatchJobResponse(event=event_message(event))

    async def ClaimJob(self, request: pb.ClaimJobRequest, context: Context) -> pb.ClaimJobResponse:
        self._workers.check()
        wait = _check_claim(request)
        job = await self._jobs.claim(
            request.worker, tenant=current_tenant(), request_id=request_id_of(request), wait_seconds=wait
        )
        if job is None:
            return pb.ClaimJobResponse()
        newest = await self._jobs.checkpoints(job.tenant, job.id, before=None, limit=1)
        answer = pb.ClaimJobResponse(job=self._told(job), tenant=job.tenant, fence=job.fence)
        answer.lease.FromMilliseconds(round(self._workers.term.worker_seconds * 1000))
        if newest:
            answer.checkpoint.CopyFrom(checkpoint_message(newest[0]))
        return answer

    async def HeartbeatJob(self, request: pb.HeartbeatJobRequest, context: Context) -> pb.HeartbeatJobResponse:
        self._workers.check()
        job = await self._jobs.heartbeat(_holder(request))
        return pb.HeartbeatJobResponse(state=STATES[job.state])

    async def ReportJob(self, request: pb.ReportJobRequest, context: Context) -> pb.ReportJobResponse:
        self._workers.check()
        report = _read_report(request)
        job = await self._jobs.report(_holder(request), report)
        return pb.ReportJobResponse(state=STATES[job.state])

    async def CompleteJob(self, request: pb.CompleteJobRequest, context: Context) -> pb.CompleteJobResponse:
        self._workers.check()
        outcome = _read_outcome(request)
        return pb.CompleteJobResponse(job=self._told(await self._jobs.finish(_holder(request), outcome)))

    async def _asked(self, request: Any, what: Move) -> pb.Job:
        job: Job = await self._jobs.ask(current_tenant(), request.job, what, request_id=request_id_of(request))
        return self._told(job)

    def _told(self, job: Job) -> pb.Job:
        return job_message(job, base=self._base)


def _holder(request: Any) -> Holder:
    return Holder(job=request.job, fence=request.fence)


def _check_claim(request: pb.ClaimJobRequest) -> float:
    """For how many seconds it waits."""
    violations = Violations()
    if not 1 <= len(request.worker) <= _MAX_WORKER_CHARACTERS:
        violations.add("worker", f"has {len(request.worker)} characters; it has 1 to {_MAX_WORKER_CHARACTERS}")
    seconds = read_seconds(request.wait, "wait", violations, high=_MAX_WAIT_SECONDS)
    violations.raise_any()
    return seconds


def _read_report(request: pb.ReportJobRequest) -> Report:
    violations = Violations()
    if request.number < 1:
        violations.add("number", f"is {request.number}; the first report has 1")
    for field in ("events", "checkpoints"):
        if len(getattr(request, field)) > _MAX_TOLD:
            violations.add(field, f"has {len(getattr(request, field))} entries; the limit is {_MAX_TOLD}")
    for index, event in enumerate(violations.until_full(request.events)):
        if len(event.message) > _MAX_MESSAGE_CHARACTERS:
            problem = f"has {len(event.message)} characters; the limit is {_MAX_MESSAGE_CHARACTERS}"
            violations.add(f"events[{index}].message", problem)
    for index, checkpoint in enumerate(violations.until_full(request.checkpoints)):
        if not 0 <= checkpoint.step <= _MAX_STEP:
            violations.add(f"checkpoints[{index}].step", f"is {checkpoint.step}; allowed are 0 to {_MAX_STEP}")
        if not checkpoint.version_digest:
            violations.add(f"checkpoints[{index}].version_digest", "is empty")
        for name, value in checkpoint.metrics.items():
            check_finite(value, f"checkpoints[{index}].metrics.{name[:40]}", violations)
    violations.raise_any()
    resolved = request.resolved_hyperparameters if request.HasField("resolved_hyperparameters") else None
    report = Report(
        number=request.number,
        news=tuple(read_news(one, f"events[{index}]", violations) for index, one in enumerate(request.events)),
        checkpoints=tuple(map(read_checkpoint, request.checkpoints)),
        progress=read_progress(request.progress, violations) if request.HasField("progress") else None,
        resolved=None if resolved is None else read_struct(resolved, "resolved_hyperparameters", violations),
    )
    violations.raise_any()
    return report


def _read_outcome(request: pb.CompleteJobRequest) -> Outcome:
    violations = Violations()
    if request.WhichOneof("outcome") is None:
        violations.add("outcome", "is not set: a result, a plan, a failure, or a release")
    if request.HasField("plan"):
        check_plan(request.plan, violations)
    if request.HasField("result"):
        for field in ("adapter", "version_digest"):
            if not getattr(request.result, field):
                violations.add(f"result.{field}", "is empty")
    if request.HasField("failure"):
        if not 1 <= len(request.failure.code) <= _MAX_CODE_CHARACTERS:
            violations.add("failure.code", f"has no text of 1 to {_MAX_CODE_CHARACTERS} characters")
        if not 1 <= len(request.failure.message) <= _MAX_MESSAGE_CHARACTERS:
            violations.add("failure.message", f"has no text of 1 to {_MAX_MESSAGE_CHARACTERS} characters")
    outcome = read_outcome(request, violations)
    violations.raise_any()
    return outcome
