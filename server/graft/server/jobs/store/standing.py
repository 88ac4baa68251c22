"""How the queue stands: how many jobs are in which state, and for how long one has waited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from graft.server.jobs import tables
from graft.server.jobs.policy.states import JobState


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Of all tenants' jobs. `oldest_waiting_seconds` is None where none waits."""

    num_by_state: Mapping[JobState, int]
    oldest_waiting_seconds: float | None


def standing(connection: sa.Connection, *, now: datetime) -> Standing:
    """Every state is named. A job waits since its last event: while it waits nothing is told of it."""
    jobs, events = tables.jobs, tables.events
    counted = connection.execute(sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state))
    known = {state: int(num) for state, num in counted}
    query = (
        sa.select(sa.func.min(events.c.create_time))
        .join(jobs, sa.and_(jobs.c.id == events.c.job, jobs.c.num_events == events.c.number))
        .where(jobs.c.state == JobState.QUEUED.value)
    )
    since = connection.execute(query).scalar_one()
    return Standing(
        num_by_state={state: known.get(state.value, 0) for state in JobState},
        oldest_waiting_seconds=None if since is None else max(0.0, (now - since).total_seconds()),
    )
