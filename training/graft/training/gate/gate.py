"""A gate carried out: held-out data are asked of the candidate, the base and `stable`, and the server decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.client import Client, Conflict, LeaseLost, NotFound
from graft.training.errors import ConfigurationError, DataError
from graft.training.evaluation.asking.served import BASE, ServedModel
from graft.training.evaluation.running.outcome import Outcome, metric_of
from graft.training.evaluation.running.run import Plan, evaluate
from graft.training.evaluation.tasks import reading
from graft.training.evaluation.tasks.task import Task
from graft.training.gate.contamination import contamination
from graft.training.gate.marks import gains_over_others, marks_by_grader, marks_by_log_probability
from graft.training.gate.report import SEED, report_of
from graft.training.gate.rows import Row, Turns, read_learned, read_rows
from graft.v1 import job_pb2
from graft.v1 import release_pb2 as pb

STABLE = "stable"
DEFAULT_MAX_ROWS = 200
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A version that was pushed, and the job that made it; no alias points at it yet."""

    adapter: str
    digest: str
    job: str = ""


def release(
    client: Client, candidate: Candidate, spec: job_pb2.GateSpec, *, training: Path, held_out: Path | None
) -> pb.Rollout:
    """Measure, and have the server decide: its rollout says whether the version takes traffic, and why.

    ``training`` are the rows that the version learned from, ``held_out`` those of the gate; None for a task, which has
    its own. Where `stable` moves meanwhile, all is measured anew.
    Raises DataError, ConfigurationError where the gate cannot be carried out; GraftClientError.
    """
    for tried in range(1, _TRIES + 1):
        report = evaluate_gate(client, candidate, spec, training=training, held_out=held_out)
        try:
            return client.decide_rollout(
                candidate.adapter, candidate.digest, gate=spec, report=report, job=candidate.job, timeout=600.0
            )
        except Conflict as error:
            if isinstance(error, LeaseLost) or tried == _TRIES:
                raise
    raise AssertionError("unreachable")


def check_gate(spec: job_pb2.GateSpec, *, training: Path, held_out: Path | None) -> None:
    """Before anything is trained. Raises ConfigurationError, DataError where no version could pass such a gate."""
    if found := trained_on(spec, training=training, held_out=held_out):
        raise DataError(
            f"the gate's data are contaminated: {'; '.join(found)}. Take these rows out of one of both files."
        )


def trained_on(spec: job_pb2.GateSpec, *, training: Path, held_out: Path | None) -> list[str]:
    """A sentence for each held-out row that is learned. Raises ConfigurationError, DataError."""
    learned = read_learned(training)
    if spec.WhichOneof("metric") == "task":
        task = _task(spec.task)
        return contamination(_questions(task, spec), learned, what=f"the task {task.name}")
    if held_out is None:
        raise ConfigurationError("the gate has no held-out rows: give a file to the gate, or a validation file.")
    return contamination(read_rows(held_out), learned, what="the gate's held-out rows")


def evaluate_gate(
    client: Client, candidate: Candidate, spec: job_pb2.GateSpec, *, training: Path, held_out: Path | None
) -> pb.GateReport:
    """What the candidate, the base and `stable` score, each by its digest: nothing moves meanwhile.

    Nothing is asked where held-out rows were trained on; the report names them then.
    Raises DataError, ConfigurationError where the gate cannot be carried out; GraftClientError.
    """
    found = trained_on(spec, training=training, held_out=held_out)
    kind = spec.WhichOneof("metric")
    metric = {"task": spec.task, "grader": "grader"}.get(str(kind), "validation loss")
    if found:
        return _contaminated(client, candidate, metric, found)
    if kind == "task" or held_out is None:
        return _by_task(client, candidate, _task(spec.task), spec)
    rows = read_rows(held_out)[: _max_rows(spec)]
    is_loss = kind != "grader"
    marks = marks_by_log_probability(client, rows) if is_loss else marks_by_grader(client, rows, spec)
    stable, name = stable_digest(client, candidate.adapter), _named(candidate.adapter, candidate.digest)
    return report_of(
        metric,
        candidate=marks(name),
        base=marks(""),
        stable=marks(_named(candidate.adapter, stable)) if stable else None,
        stable_digest=stable,
        is_loss=is_loss,
        own_over_others=gains_over_others(client, rows, name) if is_loss else (),
    )


def stable_digest(client: Client, adapter: str) -> str:
    """What `stable` points at; empty where it does not exist."""
    try:
        aliases = client.get_adapter(adapter).aliases
    except NotFound:
        return ""
    return next((one.version_digest for one in aliases if one.alias == STABLE), "")


def _by_task(client: Client, candidate: Candidate, task: Task, spec: job_pb2.GateSpec) -> pb.GateReport:
    stable = stable_digest(client, candidate.adapter)
    names = [_named(candidate.adapter, candidate.digest), BASE]
    names += [_named(candidate.adapter, stable)] if stable else []
    plan = Plan(limit=_max_rows(spec), seed=SEED)
    outcomes = evaluate([ServedModel(client, name) for name in names], [task], plan)
    own, base, *of_stable = map(_marks, outcomes)
    return report_of(
        f"{task.name}: {outcomes[0].main_key.removesuffix(',none')}",
        candidate=own,
        base=base,
        stable=of_stable[0] if of_stable else None,
        stable_digest=stable,
    )


def _task(name: str) -> Task:
    """Raises ConfigurationError: a job names no files of the worker's machine."""
    if name not in reading.ready():
        raise ConfigurationError(f"there is no task {name!r}; the gate may name {', '.join(reading.ready())}.")
    return reading.read(name)


def _marks(outcome: Outcome) -> list[float | None]:
    """Higher is better; None for a question that could not be asked. Raises DataError where none could."""
    if outcome.num_refused == len(outcome.records):
        problem = outcome.records[0].problem
        raise DataError(f"none of {outcome.task.name}'s questions could be asked of {outcome.model}: {problem}")
    key = outcome.main_key
    sign = 1.0 if metric_of(outcome.task, key).higher_is_better else -1.0
    return [None if one.problem else sign * one.marks[key] for one in outcome.records]


def _max_rows(spec: job_pb2.GateSpec) -> int:
    return spec.max_rows or DEFAULT_MAX_ROWS


def _questions(task: Task, spec: job_pb2.GateSpec) -> list[Row]:
    asked = task.questions[: _max_rows(spec)]
    return [_asked(index, one.prompt, one.targets) for index, one in enumerate(asked, start=1)]


def _asked(index: int, prompt: object, targets: Sequence[str]) -> Row:
    turns: str | Turns = (
        prompt if isinstance(prompt, str) else tuple({"role": one.role, "content": one.content} for one in prompt)  # type: ignore[attr-defined]
    )
    return Row(line=index, prompt=turns, answer=targets[0] if targets else None)


def _contaminated(client: Client, candidate: Candidate, metric: str, found: Sequence[str]) -> pb.GateReport:
    report = pb.GateReport(metric=metric, contamination=found)
    stable = stable_digest(client, candidate.adapter)
    if stable:
        report.stable.version_digest = stable
    return report


def _named(adapter: str, digest: str) -> str:
    return f"{adapter}@{digest}"
