"""Jobs, events and checkpoints as messages, and messages as what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct

from graft.server.api.grpc.fine_tuning.plans import plan_message, read_plan
from graft.server.api.grpc.releases.messages import gate_message, read_gate_message
from graft.server.api.grpc.values import read_seconds, read_struct
from graft.server.jobs.draft import read_spec
from graft.server.jobs.job import (
    Job,
    JobCheckpoint,
    JobError,
    JobEvent,
    JobResult,
    JobSpec,
    Level,
    Method,
    News,
    Progress,
    model_name,
)
from graft.server.jobs.policy.states import JobState
from graft.server.jobs.store.working import NewCheckpoint, Outcome
from graft.server.runtime.violations import Violations
from graft.v1 import job_pb2 as pb

STATES = {state: pb.JobState.Value(f"JOB_STATE_{state.name}") for state in JobState}
_METHODS = {method: pb.JobMethod.Value(f"JOB_METHOD_{method.name}") for method in Method}
_METHOD_OF = {number: method for method, number in _METHODS.items()}
_LEVELS: dict[Level, pb.JobEventLevel.ValueType] = {
    "info": pb.JOB_EVENT_LEVEL_INFO,
    "warn": pb.JOB_EVENT_LEVEL_WARN,
    "error": pb.JOB_EVENT_LEVEL_ERROR,
}
_LEVEL_OF = {number: level for level, number in _LEVELS.items()}


def job_message(job: Job, *, base: str) -> pb.Job:
    """`base` is what the served base is called."""
    message = pb.Job(
        name=f"jobs/{job.id}",
        id=job.id,
        spec=_spec_message(job.spec),
        state=STATES[job.state],
        progress=_progress_message(job.progress),
        resolved_hyperparameters=_struct(job.resolved),
        num_events=job.num_events,
        adapter=job.adapter,
        fine_tuned_model="" if job.spec.dry_run else model_name(job, base=base),
    )
    message.create_time.FromDatetime(job.create_time)
    if job.finish_time is not None:
        message.finish_time.FromDatetime(job.finish_time)
    if job.error is not None:
        error = job.error
        message.error.CopyFrom(pb.JobFailure(code=error.code, message=error.message, param=error.param or ""))
    if job.start is not None:
        message.start.CopyFrom(pb.JobStart(adapter=job.start.adapter, version_digest=job.start.version_digest))
    if job.plan is not None:
        message.plan.CopyFrom(plan_message(job.plan))
    if job.result is not None:
        message.result.CopyFrom(
            pb.JobResult(
                adapter=job.result.adapter,
                version_digest=job.result.version_digest,
                trained_tokens=job.result.trained_tokens,
                result_files=job.result.result_files,
            )
        )
    return message


def event_message(event: JobEvent) -> pb.JobEvent:
    message = pb.JobEvent(
        number=event.number,
        level=_LEVELS[event.news.level],
        message=event.news.message,
        data=None if event.news.data is None else _struct(event.news.data),
        is_metrics=event.news.is_metrics,
        state=STATES[event.state],
    )
    message.create_time.FromDatetime(event.create_time)
    return message


def checkpoint_message(checkpoint: JobCheckpoint) -> pb.JobCheckpoint:
    message = pb.JobCheckpoint(
        step=checkpoint.step, version_digest=checkpoint.version_digest, metrics=dict(checkpoint.metrics)
    )
    message.create_time.FromDatetime(checkpoint.create_time)
    return message


def read_spec_message(message: pb.JobSpec, violations: Violations) -> JobSpec:
    """Raises `BadInput` with all that is wrong, `violations` before it too."""
    method = _METHOD_OF.get(message.method)
    if method is None:
        violations.add("spec.method", f"is not set: there are {', '.join(Method)}")
    return read_spec(
        method=method or Method.SUPERVISED,
        model=message.model,
        training_file=message.training_file,
        validation_file=message.validation_file or None,
        hyperparameters=read_struct(message.hyperparameters, "hyperparameters", violations),
        grader=read_struct(message.grader, "grader", violations) if message.HasField("grader") else None,
        seed=message.seed if message.HasField("seed") else None,
        suffix=message.suffix or None,
        metadata=dict(message.metadata),
        priority=message.priority,
        adapter=message.adapter or None,
        from_checkpoint=message.from_checkpoint or None,
        dry_run=message.dry_run,
        gate=read_gate_message(message.gate, violations, "gate") if message.HasField("gate") else None,
        n_evals=message.n_evals if message.HasField("n_evals") else None,
        violations=violations,
    )


def read_news(message: pb.JobEvent, field: str, violations: Violations) -> News:
    """What a worker tells; an event without a level is an information. What is wrong is added."""
    data = read_struct(message.data, f"{field}.data", violations) if message.HasField("data") else None
    return News(
        message=message.message, level=_LEVEL_OF.get(message.level, "info"), data=data, is_metrics=message.is_metrics
    )


def read_checkpoint(message: pb.JobCheckpoint) -> NewCheckpoint:
    return NewCheckpoint(step=message.step, version_digest=message.version_digest, metrics=dict(message.metrics))


def read_progress(message: pb.JobProgress, violations: Violations) -> Progress:
    """What is wrong is added."""

    def said(name: str) -> int | None:
        return getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]

    remaining = (
        read_seconds(message.remaining, "progress.remaining", violations) if message.HasField("remaining") else None
    )
    return Progress(
        step=said("step"),
        num_steps=said("num_steps"),
        trained_tokens=said("trained_tokens"),
        remaining_seconds=remaining,
    )


def read_outcome(request: pb.CompleteJobRequest, violations: Violations) -> Outcome:
    """None where the job is given back. What is wrong is added."""
    if request.HasField("result"):
        one = request.result
        return JobResult(
            adapter=one.adapter,
            version_digest=one.version_digest,
            trained_tokens=one.trained_tokens,
            result_files=tuple(one.result_files),
        )
    if request.HasField("plan"):
        return read_plan(request.plan, violations)
    if request.HasField("failure"):
        failure = request.failure
        return JobError(code=failure.code, message=failure.message, param=failure.param or None)
    return None


def _spec_message(spec: JobSpec) -> pb.JobSpec:
    return pb.JobSpec(
        method=_METHODS[spec.method],
        model=spec.model,
        training_file=spec.training_file,
        validation_file=spec.validation_file or "",
        hyperparameters=_struct(spec.hyperparameters),
        grader=None if spec.grader is None else _struct(spec.grader),
        seed=spec.seed,
        suffix=spec.suffix or "",
        metadata=spec.metadata,
        priority=spec.priority,
        adapter=spec.adapter or "",
        from_checkpoint=spec.from_checkpoint or "",
        dry_run=spec.dry_run,
        n_evals=spec.n_evals,
        gate=None if spec.gate is None else gate_message(spec.gate),
    )


def _progress_message(progress: Progress) -> pb.JobProgress:
    message = pb.JobProgress(step=progress.step, num_steps=progress.num_steps, trained_tokens=progress.trained_tokens)
    if progress.remaining_seconds is not None:
        message.remaining.FromMilliseconds(round(progress.remaining_seconds * 1000))
    return message


def _struct(values: Mapping[str, Any]) -> Struct:
    message = Struct()
    message.update(dict(values))
    return message
