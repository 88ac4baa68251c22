"""How a job changes: its state, its row and what is told of it, always in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from graft.server.files import holds
from graft.server.jobs import tables
from graft.server.jobs.job import Job, News, job_ids
from graft.server.jobs.policy.states import ENDED, HELD, JobState, Move, after

_jobs = tables.jobs


def move(connection: sa.Connection, job: Job, what: Move, news: News, *, now: datetime, **values: Any) -> bool:
    """Bring a locked job into the state that follows, tell it, and write `values` beside; False where it is so already.

    Raises Conflict where `what` cannot be now.
    """
    state = after(job.state, what)
    if state is job.state:
        return False
    if state in ENDED:
        values |= {"finish_time": now}
        holds.release(connection, job.id)
    if state not in HELD:
        values |= {"worker": None}
    values["num_events"] = tell(connection, job, [news], state=state, now=now)
    write(connection, job, state=state.value, **values)
    return True


def tell(connection: sa.Connection, job: Job, told: Sequence[News], *, state: JobState, now: datetime) -> int:
    """Append events; returns the number of the last, which the caller writes into the job's row."""
    for number, news in enumerate(told, start=job.num_events + 1):
        connection.execute(
            sa.insert(tables.events).values(
                job=job.id,
                number=number,
                create_time=now,
                level=news.level,
                is_metrics=news.is_metrics,
                message=news.message,
                data=None if news.data is None else dict(news.data),
                state=state.value,
            )
        )
    return job.num_events + len(told)


def write(connection: sa.Connection, job: Job, **values: Any) -> None:
    """Write these columns of a locked job."""
    connection.execute(sa.update(_jobs).where(_jobs.c.id == job.id).values(**values))


def lock(connection: sa.Connection, job: str) -> None:
    """Wait for who is changing the job, and let the next wait: what is read behind this stays so until the commit.

    PostgreSQL would else let two transactions read the same row, and decide alike. SQLite has one writer.
    """
    if job_ids.made(job):
        connection.execute(sa.update(_jobs).where(_jobs.c.id == job).values(fence=_jobs.c.fence))
