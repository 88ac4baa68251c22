"""Jobs, events and checkpoints as OpenAI's objects."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from graft.server.api.http.fine_tuning.gate import gate_object
from graft.server.jobs.job import Job, JobCheckpoint, JobEvent, Method, model_name, short_id
from graft.server.jobs.policy.states import HELD

_METRICS = (
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
    "step",
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
)
_EVENT, _CHECKPOINT = "ftevent-", "ftckpt-"


def job_object(job: Job, *, base: str) -> dict[str, Any]:
    """`fine_tuning.job`; the hyperparameters are those of this run as soon as its worker has said them."""
    spec, result, error = job.spec, job.result, job.error
    hyperparameters = {**spec.hyperparameters, **job.resolved}
    method: dict[str, Any] = {"hyperparameters": hyperparameters}
    if spec.grader is not None:
        method["grader"] = spec.grader
    shown = hyperparameters if spec.method in (Method.SUPERVISED, Method.REWARD) else {}
    # Its objects have no method of the name.
    told = None if spec.method is Method.REWARD else {"type": spec.method.value, spec.method.value: method}
    # OpenAI's API has none.
    gate = {} if spec.gate is None else {"gate": gate_object(spec.gate)}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": _seconds(job.create_time),
        "finished_at": None if job.finish_time is None else _seconds(job.finish_time),
        "estimated_finish": _estimated(job),
        "status": job.state.value,
        "model": spec.model,
        "fine_tuned_model": None if result is None else model_name(job, base=base),
        "organization_id": job.tenant,
        "training_file": spec.training_file,
        "validation_file": spec.validation_file,
        "result_files": [] if result is None else list(result.result_files),
        "trained_tokens": None if result is None else result.trained_tokens,
        "error": None if error is None else {"code": error.code, "message": error.message, "param": error.param},
        "hyperparameters": {name: shown.get(name) for name in ("batch_size", "learning_rate_multiplier", "n_epochs")},
        "method": told,
        "seed": spec.seed,
        "integrations": [],
        "metadata": dict(spec.metadata) or None,
        "user_provided_suffix": spec.suffix,
        **gate,
        **_own(job),
    }


def _own(job: Job) -> dict[str, Any]:
    """What Graft has beside OpenAI's fields."""
    spec = job.spec
    found: dict[str, Any] = {"adapter": job.adapter, "priority": spec.priority}
    if spec.from_checkpoint is not None:
        found["from_checkpoint"] = spec.from_checkpoint
    if job.start is not None:
        found["start"] = asdict(job.start)
    if spec.n_evals is not None:
        found["n_evals"] = spec.n_evals
    if spec.dry_run:
        found |= {"dry_run": True, "plan": None if job.plan is None else asdict(job.plan)}
    return found


def event_object(event: JobEvent) -> dict[str, Any]:
    """`fine_tuning.job.event`."""
    return {
        "id": f"{_EVENT}{short_id(event.job)}-{event.number}",
        "object": "fine_tuning.job.event",
        "created_at": _seconds(event.create_time),
        "level": event.news.level,
        "message": event.news.message,
        "type": "metrics" if event.news.is_metrics else "message",
        "data": event.news.data,
    }


def checkpoint_object(checkpoint: JobCheckpoint, job: Job, *, base: str) -> dict[str, Any]:
    """`fine_tuning.job.checkpoint`."""
    return {
        "id": f"{_CHECKPOINT}{short_id(job.id)}-{checkpoint.step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": _seconds(checkpoint.create_time),
        "fine_tuned_model_checkpoint": model_name(job, base=base, step=checkpoint.step),
        "fine_tuning_job_id": job.id,
        "step_number": checkpoint.step,
        "metrics": {name: checkpoint.metrics[name] for name in _METRICS if name in checkpoint.metrics},
    }


def number_of(cursor: str, job: str) -> int | None:
    """The number that an event's or a checkpoint's id ends with; None where it is no id of this job's."""
    for prefix in (_EVENT, _CHECKPOINT):
        begin = f"{prefix}{short_id(job)}-"
        digits = cursor.removeprefix(begin)
        if cursor.startswith(begin) and digits.isascii() and digits.isdigit() and len(digits) < 10:
            return int(digits)
    return None


def _estimated(job: Job) -> int | None:
    remaining = job.progress.remaining_seconds
    if job.state not in HELD or remaining is None:
        return None
    return _seconds(datetime.now(UTC) + timedelta(seconds=remaining))


def _seconds(time: datetime) -> int:
    return int(time.timestamp())
