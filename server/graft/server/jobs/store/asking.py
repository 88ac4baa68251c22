"""What a tenant does with jobs: writes, each in the transaction of its caller."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from graft.adapters.catalog import replay
from graft.adapters.catalog.reads import get_version
from graft.adapters.catalog.tables import tenants
from graft.adapters.errors import NotFound
from graft.server.errors import NoSuchResource, QuotaExceeded
from graft.server.files import holds
from graft.server.files import reads as files
from graft.server.files.file import Purpose
from graft.server.jobs import tables
from graft.server.jobs.job import MAX_SEED, Job, JobError, JobSpec, News, Start, job_ids
from graft.server.jobs.policy.states import JobState, Move
from graft.server.jobs.store import reads, rows
from graft.server.jobs.store.changes import lock, move, tell
from graft.server.runtime.violations import Violations

# Of what learning from a file once costs: to read it only, and try a few steps.
_DRY_SHARE = 0.01
# Workers see most files so often where `auto` is asked, as OpenAI does: saying it in a number costs nobody more.
_AUTO_EPOCHS = 3
_SAID = {
    Move.CANCEL: "The job was cancelled",
    Move.RESUME: "The job goes on",
}


@dataclass(frozen=True, kw_only=True)
class JobDraft:
    """A job to be made, from what `start` finds; at most `max_open` of the tenant's may be under way."""

    tenant: str
    spec: JobSpec
    start: Callable[[], Start | None]
    max_open: int


def create(connection: sa.Connection, draft: JobDraft, *, request_id: str | None, now: datetime) -> Job:
    """Make a job, which needs its files from now on; its seed is drawn where none was asked for.

    Raises `BadInput` for files that are not there or not for this, `QuotaExceeded`, NotFound for the tenant, and what
    `draft.start` does.
    """
    # What is repeated is compared as it was asked, and answered whatever became of the files and the model since.
    tenant, spec = draft.tenant, draft.spec
    call = ["create_job", rows.spec_row(spec)]
    answer = replay.recall(connection, tenant, request_id, call)
    if answer is not None:
        return reads.get(connection, tenant, answer["id"])
    if connection.execute(sa.select(tenants.c.name).where(tenants.c.name == tenant)).first() is None:
        raise NotFound(f"there is no tenant {tenant[:100]!r}")
    start = draft.start()
    if start is not None:
        # It was found in a picture of the catalog; from now on it cannot be deleted.
        get_version(connection, tenant, start.adapter, start.version_digest)
    spec = replace(spec, seed=secrets.randbelow(MAX_SEED)) if spec.seed is None else spec
    cost = _cost(connection, tenant, spec, now=now)
    num_open = reads.num_open(connection, tenant)
    if num_open >= draft.max_open:
        raise QuotaExceeded(
            f"{num_open} jobs of the tenant have not ended: the limit is {draft.max_open} (max_jobs); wait, cancel "
            "some, or raise the setting"
        )
    job = Job(id=job_ids(), tenant=tenant, spec=spec, state=JobState.VALIDATING_FILES, create_time=now)
    told = [News(message=f"The job {job.id} was made"), News(message=f"Reading {' and '.join(spec.files)}")]
    connection.execute(
        sa.insert(tables.jobs).values(
            id=job.id,
            tenant=tenant,
            state=job.state.value,
            spec=rows.spec_row(spec),
            priority=spec.priority,
            cost=cost,
            is_charged=False,
            fence=0,
            beat=0,
            num_reports=0,
            num_losses=0,
            num_events=len(told),
            create_time=now,
            start=None if start is None else asdict(start),
            progress=asdict(job.progress),
            resolved={},
        )
    )
    tell(connection, job, told, state=job.state, now=now)
    for file in spec.files:
        holds.hold(connection, tenant, file, job.id)
    replay.remember(connection, tenant, request_id, call, {"id": job.id}, now=now)
    return reads.get(connection, tenant, job.id)


def ask(connection: sa.Connection, tenant: str, job: str, what: Move, *, request_id: str | None, now: datetime) -> Job:
    """Pause, resume or cancel; asked again it is so already. Raises `NoSuchResource`, Conflict."""
    call = [f"{what}_job", job]
    lock(connection, job)
    found = reads.get(connection, tenant, job)
    if replay.recall(connection, tenant, request_id, call) is None:
        move(connection, found, what, News(message=_said(found, what)), now=now)
        replay.remember(connection, tenant, request_id, call, {}, now=now)
    return reads.get(connection, tenant, job)


def judged(connection: sa.Connection, job: Job, error: JobError | None, *, now: datetime) -> bool:
    """The job's files were read: it waits for a worker, or has failed. False where it is not waiting for that."""
    lock(connection, job.id)
    now_there = reads.get(connection, job.tenant, job.id)
    if now_there.state is not JobState.VALIDATING_FILES:
        return False
    if error is None:
        return move(connection, now_there, Move.ACCEPT, News(message="The files are sound; the job waits"), now=now)
    news = News(message=error.message, level="error", data={"code": error.code, "param": error.param})
    return move(connection, now_there, Move.FAIL, news, now=now, error=asdict(error))


def _said(job: Job, what: Move) -> str:
    if what is not Move.PAUSE:
        return _SAID[what]
    return "The worker is asked to pause" if job.state is JobState.RUNNING else "The job is paused"


def _cost(connection: sa.Connection, tenant: str, spec: JobSpec, *, now: datetime) -> float:
    """The bytes that are learned from, each time that they are. Raises `BadInput` for a file that cannot be used."""
    violations, num_bytes = Violations(), 0
    for field, name in spec.named_files.items():
        try:
            file = files.get(connection, tenant, name, now=now)
        except NoSuchResource as error:
            violations.add(field, str(error))
            continue
        if file.purpose is not Purpose.FINE_TUNE:
            violations.add(field, f"{name} was uploaded for {file.purpose}; upload it for {Purpose.FINE_TUNE}")
        num_bytes += file.size_bytes if field == "training_file" else 0
    violations.raise_any()
    if spec.dry_run:
        return float(max(1, round(_DRY_SHARE * num_bytes)))
    epochs = spec.hyperparameters.get("n_epochs")
    return float(max(1, num_bytes) * (epochs if isinstance(epochs, int) else _AUTO_EPOCHS))
