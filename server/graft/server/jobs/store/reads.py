"""What is read of jobs, each time in the transaction of the caller."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from graft.server.errors import BadInput, NoSuchResource, Violation
from graft.server.jobs import tables
from graft.server.jobs.job import Job, JobCheckpoint, JobEvent, job_ids
from graft.server.jobs.policy.lease import Beat
from graft.server.jobs.policy.states import ENDED, HELD, JobState
from graft.server.jobs.store import rows

# Of one statement: SQLite once took a thousand.
_MAX_IDS = 500
_jobs, _events, _checkpoints = tables.jobs, tables.events, tables.checkpoints


@dataclass(frozen=True, kw_only=True)
class JobListing:
    """A part of a tenant's jobs, newest first: at most `limit`, those older than the id `after`.

    `metadata` are pairs that a job must have; None stands for jobs that have none at all.
    """

    limit: int
    after: str | None = None
    metadata: Mapping[str, str] | None = field(default_factory=dict)
    state: JobState | None = None


def get(connection: sa.Connection, tenant: str, job: str) -> Job:
    """One job. Raises `NoSuchResource`."""
    found = get_any(connection, job)
    if found.tenant != tenant:
        raise _no_job(job)
    return found


def get_any(connection: sa.Connection, job: str) -> Job:
    """One job of whichever tenant. Raises `NoSuchResource`."""
    # What is no id, such as a text with a NUL, not every database can be asked for.
    query = sa.select(_jobs).where(_jobs.c.id == job)
    row = connection.execute(query).mappings().first() if job_ids.made(job) else None
    if row is None:
        raise _no_job(job)
    return rows.job(row)


def listed(connection: sa.Connection, tenant: str, listing: JobListing) -> tuple[tuple[Job, ...], bool]:
    """Jobs, and whether there are more. Raises `BadInput` for the cursor."""
    query = sa.select(_jobs).where(_jobs.c.tenant == tenant)
    if listing.after is not None:
        if not job_ids.made(listing.after):
            problem = f"{listing.after[:100]!r} is no id of a job; give the last one of the page before"
            raise BadInput(Violation(field="after", problem=problem))
        query = query.where(_jobs.c.id < listing.after)
    if listing.state is not None:
        query = query.where(_jobs.c.state == listing.state.value)
    found: list[Job] = []
    # JSON is compared here: databases have no common words for it.
    query = query.order_by(_jobs.c.id.desc())
    query = query if listing.metadata or listing.metadata is None else query.limit(listing.limit + 1)
    for row in connection.execute(query).mappings():
        job = rows.job(row)
        if _has(job.spec.metadata, listing.metadata):
            found.append(job)
        if len(found) > listing.limit:
            break
    return tuple(found[: listing.limit]), len(found) > listing.limit


def events(
    connection: sa.Connection, tenant: str, job: str, *, limit: int, after: int | None = None, before: int | None = None
) -> tuple[JobEvent, ...]:
    """Of a job: the oldest behind the number `after`, or else the newest before `before`. Raises `NoSuchResource`."""
    get(connection, tenant, job)
    query = sa.select(_events).where(_events.c.job == job)
    if after is not None:
        query = query.where(_events.c.number > after).order_by(_events.c.number)
    else:
        query = query.order_by(_events.c.number.desc())
        query = query if before is None else query.where(_events.c.number < before)
    return tuple(map(rows.event, connection.execute(query.limit(limit)).mappings()))


def checkpoints(
    connection: sa.Connection, tenant: str, job: str, *, limit: int, before: int | None = None
) -> tuple[JobCheckpoint, ...]:
    """Of a job: the newest before the step `before`. Raises `NoSuchResource`."""
    get(connection, tenant, job)
    query = sa.select(_checkpoints).where(_checkpoints.c.job == job).order_by(_checkpoints.c.step.desc())
    query = query if before is None else query.where(_checkpoints.c.step < before)
    return tuple(map(rows.checkpoint, connection.execute(query.limit(limit)).mappings()))


def num_open(connection: sa.Connection, tenant: str) -> int:
    """How many of the tenant's jobs have not ended."""
    query = sa.select(sa.func.count()).where(
        _jobs.c.tenant == tenant, _jobs.c.state.not_in([one.value for one in ENDED])
    )
    return int(connection.execute(query).scalar_one())


def held(connection: sa.Connection) -> dict[str, Beat]:
    """All jobs that workers have."""
    query = sa.select(_jobs.c.id, _jobs.c.fence, _jobs.c.beat).where(_jobs.c.state.in_([one.value for one in HELD]))
    return {row.id: Beat(fence=row.fence, beat=row.beat) for row in connection.execute(query)}


def in_state(connection: sa.Connection, state: JobState) -> tuple[Job, ...]:
    """All tenants' jobs that are there, oldest first."""
    query = sa.select(_jobs).where(_jobs.c.state == state.value).order_by(_jobs.c.id)
    return tuple(map(rows.job, connection.execute(query).mappings()))


def ids_in(connection: sa.Connection, states: Collection[JobState]) -> frozenset[str]:
    """Ids of all tenants' jobs that are in one of these states."""
    query = sa.select(_jobs.c.id).where(_jobs.c.state.in_([one.value for one in states]))
    return frozenset(connection.execute(query).scalars())


def num_in(connection: sa.Connection, states: Collection[JobState]) -> int:
    """How many of all tenants' jobs are in one of these states."""
    query = sa.select(sa.func.count()).where(_jobs.c.state.in_([one.value for one in states]))
    return int(connection.execute(query).scalar_one())


def with_checkpoints(connection: sa.Connection, ids: Collection[str]) -> Iterator[tuple[Job, dict[int, str]]]:
    """These jobs, each with the digests of its checkpoints by step."""
    ordered = sorted(ids)
    for part in (ordered[begin : begin + _MAX_IDS] for begin in range(0, len(ordered), _MAX_IDS)):
        steps: dict[str, dict[int, str]] = {}
        columns = (_checkpoints.c.job, _checkpoints.c.step, _checkpoints.c.version_digest)
        for row in connection.execute(sa.select(*columns).where(_checkpoints.c.job.in_(part))):
            steps.setdefault(row.job, {})[row.step] = row.version_digest
        for found in connection.execute(sa.select(_jobs).where(_jobs.c.id.in_(part))).mappings():
            yield rows.job(found), steps.get(found["id"], {})


def _no_job(job: str) -> NoSuchResource:
    return NoSuchResource(f"there is no job {job[:100]!r}")


def _has(metadata: Mapping[str, str], wanted: Mapping[str, str] | None) -> bool:
    if wanted is None:
        return not metadata
    return all(metadata.get(key) == wanted[key] for key in wanted)
