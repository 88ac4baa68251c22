"""What workers do with jobs: writes, each in the transaction of its caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from graft.adapters.catalog import replay
from graft.server.jobs import tables
from graft.server.jobs.job import Hyperparameter, Job, JobError, JobResult, News, Progress
from graft.server.jobs.plan import JobPlan
from graft.server.jobs.policy.lease import MAX_LOSSES, Beat, check_fence
from graft.server.jobs.policy.queue import Shares, Waiting, next_job
from graft.server.jobs.policy.states import HELD, JobState, Move
from graft.server.jobs.store import reads
from graft.server.jobs.store.changes import lock, move, tell, write
from graft.server.jobs.store.made import Fits, check_checkpoints, check_kind, check_result

_jobs = tables.jobs


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A worker's right to a job: the fence that its claim was answered with."""

    job: str
    fence: int


@dataclass(frozen=True, kw_only=True)
class NewCheckpoint:
    """A step that was saved as a version of an adapter."""

    step: int
    version_digest: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a worker tells. `number` rises with each report of one claim: one that came before is not told again."""

    number: int
    news: Sequence[News] = ()
    checkpoints: Sequence[NewCheckpoint] = ()
    progress: Progress | None = None
    resolved: Mapping[str, Hyperparameter] | None = None


Outcome = JobResult | JobPlan | JobError | None
"""How a worker ends: with a result, a dry run's plan, an error, or None where it gives the job back, saved."""


def may_claim(connection: sa.Connection, worker: str, *, tenant: str, request_id: str | None) -> bool:
    """Whether a claim would find something: a job that waits, or the answer to the first call."""
    if reads.num_in(connection, {JobState.QUEUED}):
        return True
    return replay.recall(connection, tenant, request_id, ["claim_job", worker]) is not None


def claim(connection: sa.Connection, worker: str, *, tenant: str, request_id: str | None, now: datetime) -> Job | None:
    """Give the worker, which is `tenant`'s, the next job of any tenant; None where none waits.

    Repeated with the same `request_id` it is the job of the first call. Raises `LeaseLost` where that was lost since.
    """
    call = ["claim_job", worker]
    answer = replay.recall(connection, tenant, request_id, call)
    if answer is not None:
        return _claimed_before(connection, answer)
    queue = tables.queue
    # The first write: whoever claims at the same moment waits here, and then reads what this one wrote.
    connection.execute(sa.update(queue).values(virtual_time=queue.c.virtual_time))
    shares = _shares(connection)
    chosen = next_job(_waiting(connection), shares)
    if chosen is None:
        return None
    job = reads.get_any(connection, chosen.id)
    news = News(message="A worker began" if job.fence == 0 else "A worker goes on from the newest checkpoint")
    values = {"worker": worker, "fence": job.fence + 1, "beat": 0, "num_reports": 0, "is_charged": True}
    move(connection, job, Move.CLAIM, news, now=now, **values)
    _charge(connection, shares.charged(chosen), chosen.tenant)
    replay.remember(connection, tenant, request_id, call, {"id": job.id, "fence": job.fence + 1}, now=now)
    return reads.get_any(connection, job.id)


def holding(connection: sa.Connection, holder: Holder) -> Job:
    """The job, while the worker has it. Raises `LeaseLost`."""
    job = reads.get_any(connection, holder.job)
    check_fence(job.id, fence=holder.fence, holds=job.worker is not None, current=job.fence)
    return job


def heartbeat(connection: sa.Connection, holder: Holder) -> Job:
    """The worker is there; the job's state says what it shall do. Raises `LeaseLost`."""
    job = _held(connection, holder)
    write(connection, job, beat=_jobs.c.beat + 1)
    return job


def report(connection: sa.Connection, holder: Holder, said: Report, *, fits: Fits, now: datetime) -> Job:
    """Keep what the worker tells, once; it is a heartbeat, too.

    Raises `LeaseLost`; `BadInput` for checkpoints that are no versions of the job's.
    """
    job = _held(connection, holder)
    query = sa.select(_jobs.c.num_reports).where(_jobs.c.id == job.id)
    if said.number <= int(connection.execute(query).scalar_one()):
        return heartbeat(connection, holder)
    values: dict[str, Any] = {"num_reports": said.number, "beat": _jobs.c.beat + 1}
    values["num_events"] = tell(connection, job, said.news, state=job.state, now=now)
    if said.progress is not None:
        values["progress"] = asdict(said.progress)
    if said.resolved is not None:
        values["resolved"] = dict(said.resolved)
    check_checkpoints(connection, job, (one.version_digest for one in said.checkpoints), fits=fits)
    for checkpoint in said.checkpoints:
        _keep(connection, job, checkpoint, now=now)
        values["num_losses"] = 0
    write(connection, job, **values)
    return reads.get_any(connection, job.id)


def finish(connection: sa.Connection, holder: Holder, outcome: Outcome, *, fits: Fits, now: datetime) -> Job:
    """The worker ends; repeated, it is answered again. Raises `LeaseLost`; `BadInput` for a result that is none."""
    lock(connection, holder.job)
    job = reads.get_any(connection, holder.job)
    if job.fence == holder.fence and job.state in _ENDS[type(outcome)]:
        return job
    job = _held(connection, holder)
    if isinstance(outcome, JobResult | JobPlan):
        check_kind(job, outcome)
    if isinstance(outcome, JobResult):
        check_result(connection, job, outcome, fits=fits, now=now)
        data = {key: getattr(outcome, key) for key in ("trained_tokens", "adapter", "version_digest")}
        news = News(message="The job has succeeded", data=data)
        move(connection, job, Move.SUCCEED, news, now=now, result=_result_row(outcome))
    elif isinstance(outcome, JobPlan):
        move(connection, job, Move.SUCCEED, News(message=outcome.said), now=now, plan=asdict(outcome))
    elif isinstance(outcome, JobError):
        news = News(message=outcome.message, level="error", data={"code": outcome.code, "param": outcome.param})
        move(connection, job, Move.FAIL, news, now=now, error=asdict(outcome))
    else:
        message = "The job is paused" if job.state is JobState.PAUSING else "The worker gave the job back; it waits"
        move(connection, job, Move.RELEASE, News(message=message), now=now)
    return reads.get_any(connection, job.id)


def give_up(connection: sa.Connection, job: str, seen: Beat, *, now: datetime) -> bool:
    """Take a job from a worker of which nothing was heard since `seen`; False where something was."""
    lock(connection, job)
    found = reads.get_any(connection, job)
    query = sa.select(_jobs.c.beat, _jobs.c.num_losses).where(_jobs.c.id == job)
    beat, num_losses = connection.execute(query).one()
    if found.state not in HELD or (found.fence, beat) != (seen.fence, seen.beat):
        return False
    if num_losses + 1 < MAX_LOSSES:
        # Workers' names are the operator's: they stand in the log.
        news = News(message="Nothing was heard of the worker any more", level="warn")
        return move(connection, found, Move.RELEASE, news, now=now, num_losses=num_losses + 1)
    problem = f"{num_losses + 1} workers one after another were lost with the job, without a checkpoint between"
    error = JobError(code="worker_lost", message=problem)
    news = News(message=problem, level="error", data={"code": error.code})
    return move(connection, found, Move.FAIL, news, now=now, error=asdict(error), num_losses=num_losses + 1)


_ENDS: dict[type, frozenset[JobState]] = {
    JobResult: frozenset({JobState.SUCCEEDED}),
    JobPlan: frozenset({JobState.SUCCEEDED}),
    JobError: frozenset({JobState.FAILED}),
    type(None): frozenset({JobState.PAUSED, JobState.QUEUED}),
}


def _claimed_before(connection: sa.Connection, answer: Mapping[str, Any]) -> Job:
    job = reads.get_any(connection, answer["id"])
    check_fence(job.id, fence=answer["fence"], holds=job.worker is not None, current=job.fence)
    return job


def _held(connection: sa.Connection, holder: Holder) -> Job:
    lock(connection, holder.job)
    return holding(connection, holder)


def _waiting(connection: sa.Connection) -> list[Waiting]:
    columns = (_jobs.c.id, _jobs.c.tenant, _jobs.c.priority, _jobs.c.cost, _jobs.c.is_charged)
    found = connection.execute(sa.select(*columns).where(_jobs.c.state == JobState.QUEUED.value))
    return [
        Waiting(id=row.id, tenant=row.tenant, priority=row.priority, cost=0.0 if row.is_charged else row.cost)
        for row in found
    ]


def _shares(connection: sa.Connection) -> Shares:
    time = connection.execute(sa.select(tables.queue.c.virtual_time)).scalar_one()
    found = connection.execute(sa.select(tables.shares.c.tenant, tables.shares.c.finish))
    return Shares(time=float(time), finishes={row.tenant: row.finish for row in found})


def _charge(connection: sa.Connection, shares: Shares, tenant: str) -> None:
    table, finish = tables.shares, shares.finishes[tenant]
    connection.execute(sa.update(tables.queue).values(virtual_time=shares.time))
    if not connection.execute(sa.update(table).where(table.c.tenant == tenant).values(finish=finish)).rowcount:
        connection.execute(sa.insert(table).values(tenant=tenant, finish=finish))


def _keep(connection: sa.Connection, job: Job, checkpoint: NewCheckpoint, *, now: datetime) -> None:
    """Steps that are done again after a loss have their checkpoint anew."""
    table = tables.checkpoints
    values = {"create_time": now, "version_digest": checkpoint.version_digest, "metrics": dict(checkpoint.metrics)}
    here = (table.c.job == job.id, table.c.step == checkpoint.step)
    if not connection.execute(sa.update(table).where(*here).values(**values)).rowcount:
        connection.execute(sa.insert(table).values(job=job.id, step=checkpoint.step, **values))


def _result_row(result: JobResult) -> dict[str, Any]:
    return asdict(result) | {"result_files": list(result.result_files)}
