"""Reads of rollouts, in the transaction of their caller."""

from __future__ import annotations

import sqlalchemy as sa

from graft.server.errors import NoSuchResource
from graft.server.releases import tables
from graft.server.releases.policy.stages import Stage
from graft.server.releases.rollout import Rollout
from graft.server.releases.store import rows

_rollouts = tables.rollouts


def get(connection: sa.Connection, tenant: str, id: str) -> Rollout:
    """Raises `NoSuchResource`."""
    found = connection.execute(sa.select(_rollouts).where(_rollouts.c.tenant == tenant, _rollouts.c.id == id))
    row = found.mappings().first()
    if row is None:
        raise NoSuchResource(f"there is no rollout {id[:100]!r}")
    return rows.rollout(row)


def listed(
    connection: sa.Connection, tenant: str, adapter: str | None, *, before: str | None, limit: int
) -> tuple[Rollout, ...]:
    """The newest before this id, or of all."""
    query = sa.select(_rollouts).where(_rollouts.c.tenant == tenant)
    if adapter is not None:
        query = query.where(_rollouts.c.adapter == adapter)
    if before is not None:
        query = query.where(_rollouts.c.id < before)
    found = connection.execute(query.order_by(_rollouts.c.id.desc()).limit(limit))
    return tuple(map(rows.rollout, found.mappings()))


def under_way(connection: sa.Connection) -> tuple[Rollout, ...]:
    """All tenants' canaries."""
    found = connection.execute(sa.select(_rollouts).where(_rollouts.c.ended == ""))
    return tuple(map(rows.rollout, found.mappings()))


def canary_of(connection: sa.Connection, tenant: str, adapter: str) -> Rollout | None:
    """The adapter's canary, if it has one."""
    where = (_rollouts.c.tenant == tenant, _rollouts.c.adapter == adapter, _rollouts.c.ended == "")
    row = connection.execute(sa.select(_rollouts).where(*where)).mappings().first()
    return None if row is None else rows.rollout(row)


def of_job(connection: sa.Connection, tenant: str, job: str, version_digest: str) -> Rollout | None:
    """The newest rollout of a job's version."""
    where = (_rollouts.c.tenant == tenant, _rollouts.c.job == job, _rollouts.c.version_digest == version_digest)
    query = sa.select(_rollouts).where(*where).order_by(_rollouts.c.id.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else rows.rollout(row)


def latest(connection: sa.Connection, tenant: str, adapter: str, stage: Stage) -> Rollout | None:
    """The adapter's newest rollout in this stage."""
    where = (_rollouts.c.tenant == tenant, _rollouts.c.adapter == adapter, _rollouts.c.stage == stage.value)
    query = sa.select(_rollouts).where(*where).order_by(_rollouts.c.id.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else rows.rollout(row)
