"""Jobs, events and files as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from graft.cli.terminal import size, table
from graft.client.fine_tuning.values import values_of, whole
from graft.machine.control_characters import harmless

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from graft.v1 import file_pb2, job_pb2


_MAX_SHOWN = 60


def state_of(job: job_pb2.Job | job_pb2.JobEvent) -> str:
    """In OpenAI's words: running."""
    from graft.v1 import job_pb2

    return job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()


def method_of(job: job_pb2.Job) -> str:
    """In OpenAI's words: supervised."""
    from graft.v1 import job_pb2

    return job_pb2.JobMethod.Name(job.spec.method).removeprefix("JOB_METHOD_").lower()


def moment(time: Timestamp) -> str:
    """UTC, to the second: 2026-11-28 13:00:01."""
    return datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """For reading: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def progress(job: job_pb2.Job) -> str:
    """How far it is: `120/400 steps`; empty where that was not said."""
    now = job.progress
    if not now.HasField("step"):
        return ""
    return f"{now.step}/{now.num_steps} steps" if now.HasField("num_steps") else f"step {now.step}"


def status_line(job: job_pb2.Job) -> str:
    """One line: state, steps, tokens, time left; as much as is known."""
    parts = [job.id, state_of(job) if job.state else "", progress(job)]
    if job.progress.HasField("trained_tokens"):
        parts.append(f"{job.progress.trained_tokens:,} tokens")
    if job.progress.HasField("remaining") and state_of(job) == "running":
        parts.append(f"{duration(job.progress.remaining.ToTimedelta().total_seconds())} left")
    return " · ".join(part for part in parts if part)


def jobs_table(jobs: Iterable[job_pb2.Job]) -> str:
    rows = [
        (job.id, state_of(job), method_of(job), progress(job), moment(job.create_time), *map(harmless, _names(job)))
        for job in jobs
    ]
    return table(("JOB", "STATE", "METHOD", "PROGRESS", "CREATED (UTC)", "BASE", "MODEL"), rows)


def _names(job: job_pb2.Job) -> tuple[str, str]:
    return job.spec.model, job.fine_tuned_model


def files_table(files: Iterable[file_pb2.File]) -> str:
    rows = [
        (file.id, file.purpose, size(file.size_bytes), moment(file.create_time), harmless(file.filename))
        for file in files
    ]
    return table(("FILE", "PURPOSE", "SIZE", "CREATED (UTC)", "NAME"), rows)


def event_line(event: job_pb2.JobEvent) -> str:
    """An event in one line; of metrics their names and values."""
    from graft.v1 import job_pb2

    level = job_pb2.JobEventLevel.Name(event.level).removeprefix("JOB_EVENT_LEVEL_").lower()
    text = metrics_text(values_of(event.data)) if event.is_metrics else event.message
    mark = f"{level}: " if level in ("warn", "error") else ""
    return f"{moment(event.create_time)}  {mark}{harmless(text)}"


def metrics_text(values: Mapping[str, Any]) -> str:
    """`step 12  train_loss 1.234`."""
    names = sorted(values, key=lambda name: (name != "step", name))
    return "  ".join(f"{name} {shown(values[name])}" for name in names if name != "total_steps")


def shown(value: object) -> str:
    """A number short, a text as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def job_text(
    job: job_pb2.Job,
    checkpoints: Sequence[job_pb2.JobCheckpoint],
    metrics: Mapping[str, float],
    names: Mapping[str, str],
) -> str:
    """All that is known of a job, a line each; `names` are those of its files, as far as they are there."""
    spec = job.spec
    lines = {
        "state": status_line(job).removeprefix(f"{job.id} · "),
        "method": method_of(job),
        "base or model": spec.model,
        "goes on from": _start(job),
        "makes": job.fine_tuned_model,
        "suffix": spec.suffix,
        "adapter": job.adapter,
        "training file": _named(spec.training_file, names),
        "validation file": _named(spec.validation_file, names),
        "made": moment(job.create_time),
        "ended": moment(job.finish_time) if job.HasField("finish_time") else "",
        "hyperparameters": hyperparameters_text(job),
        "n_evals": str(spec.n_evals) if spec.HasField("n_evals") else "",
        "grader": _settings_text(spec, "grader"),
        "gate": _settings_text(spec, "gate"),
        "dry run": "yes: nothing is trained" if spec.dry_run else "",
        "seed": str(spec.seed) if spec.HasField("seed") else "",
        "priority": str(spec.priority) if spec.priority else "",
        "metadata": ", ".join(f"{name}={value}" for name, value in sorted(spec.metadata.items())),
        "metrics": ", ".join(f"{name} {shown(value)}" for name, value in metrics.items()),
        "checkpoints": ", ".join(f"step {one.step}" for one in reversed(checkpoints)),
        "failed because": failure_text(job),
        **_made(job, names),
    }
    known = {name: harmless(text) for name, text in lines.items() if text}
    width = max(map(len, known))
    return "\n".join([job.id, *(f"  {name:<{width}}  {text}" for name, text in known.items())])


def _named(file: str, names: Mapping[str, str]) -> str:
    return f"{file} ({names[file]})" if file in names else file


def _start(job: job_pb2.Job) -> str:
    if not job.HasField("start"):
        return job.spec.from_checkpoint
    start = f"{job.start.adapter} {job.start.version_digest}"
    return f"{start} ({job.spec.from_checkpoint})" if job.spec.from_checkpoint else start


def _settings_text(spec: job_pb2.JobSpec, name: Literal["grader", "gate"]) -> str:
    """What was said of a grader or a gate: `type multi, name both, graders.a.type string_check`."""
    from google.protobuf.json_format import MessageToDict

    if not spec.HasField(name):
        return ""
    said = flat(whole(MessageToDict(getattr(spec, name), preserving_proto_field_name=True)))
    return ", ".join(key if value == {} else f"{key} {shown(value)[:_MAX_SHOWN]}" for key, value in said.items())


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Of values within values each by its path, `canary.share_percent`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _made(job: job_pb2.Job, names: Mapping[str, str]) -> dict[str, str]:
    if not job.HasField("result"):
        return {}
    result = job.result
    return {
        "version": f"{result.adapter} {result.version_digest}" if result.adapter else "",
        "trained tokens": f"{result.trained_tokens:,}",
        "result files": ", ".join(_named(one, names) for one in result.result_files),
    }


def failure_text(job: job_pb2.Job) -> str:
    """Why it failed; empty where it has not."""
    if not job.HasField("error"):
        return ""
    where = f" ({job.error.param})" if job.error.param and job.error.param not in job.error.message else ""
    return f"{job.error.message} [{job.error.code}]{where}"


def hyperparameters_text(job: job_pb2.Job) -> str:
    """As they were asked, and what `auto` became."""
    asked, resolved = values_of(job.spec.hyperparameters), values_of(job.resolved_hyperparameters)
    parts = []
    for name, value in sorted({**resolved, **asked}.items()):
        became = f" ({shown(resolved[name])})" if name in resolved and resolved[name] != value else ""
        parts.append(f"{name} {shown(value)}{became}")
    return ", ".join(parts)


def file_text(file: file_pb2.File) -> str:
    """All that is known of a file, a line each."""
    lines = {
        "name": file.filename,
        "purpose": file.purpose,
        "size": f"{file.size_bytes:,} bytes",
        "digest": file.digest,
        "made": moment(file.create_time),
        "expires": moment(file.expire_time) if file.HasField("expire_time") else "",
    }
    return "\n".join([file.id, *(f"  {name:<7}  {harmless(text)}" for name, text in lines.items() if text)])
