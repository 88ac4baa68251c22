"""Which versions jobs need that have not ended: those that they began from, and go on from."""

from __future__ import annotations

import sqlalchemy as sa

from graft.server.jobs import tables
from graft.server.jobs.policy.states import ENDED
from graft.server.jobs.store import reads, rows


def needed_by_jobs(connection: sa.Connection, tenant: str, adapter: str) -> dict[str, str]:
    """Of a tenant's adapter: ids of jobs by the digests of versions, of each job its start and newest checkpoint."""
    jobs = tables.jobs
    is_open = sa.and_(jobs.c.tenant == tenant, jobs.c.state.not_in([one.value for one in ENDED]))
    found: dict[str, str] = {}
    for row in connection.execute(sa.select(jobs).where(is_open).order_by(jobs.c.id)).mappings():
        job = rows.job(row)
        if job.start is not None and job.start.adapter == adapter:
            found.setdefault(job.start.version_digest, job.id)
        if job.adapter == adapter:
            for newest in reads.checkpoints(connection, tenant, job.id, limit=1):
                found.setdefault(newest.version_digest, job.id)
    return found
