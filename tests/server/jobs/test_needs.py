"""What an open job needs is not deleted below it."""

from __future__ import annotations

import pytest

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.errors import Conflict, NotFound
from graft.server.jobs.job import Start
from graft.server.jobs.policy.states import Move
from graft.server.jobs.store.needs import needed_by_jobs
from graft.server.jobs.store.working import NewCheckpoint, Report
from tests.adapters.making import register
from tests.server.jobs.keeping import KeptJobs, holder


def test_versions_that_a_job_begins_or_goes_on_from_stay_until_it_ends() -> None:
    kept = KeptJobs()
    catalog = Catalog(kept.database, needs=needed_by_jobs)
    base = register(catalog, "begun", adapter="joe").digest
    other = register(catalog, "other", adapter="joe").digest

    def start() -> Start:
        return Start(adapter="joe", version_digest=base)

    job = kept.catalog.create(kept.spec(), tenant="default", start=start)
    kept.catalog.judged(job, None)
    claimed = kept.claimed()
    first, second = kept.version(job, "1"), kept.version(job, "2")
    for step, digest in enumerate((first, second), start=1):
        report = Report(number=step, checkpoints=[NewCheckpoint(step=step, version_digest=digest)])
        kept.catalog.report(holder(claimed), report)
    kept.catalog.finish(holder(claimed), None)
    for adapter, digest in (("joe", base), (job.adapter, second)):
        with pytest.raises(Conflict, match=f"{digest}: {job.id} needs it; wait for it, or cancel it first"):
            catalog.delete_version(tenant="default", adapter=adapter, version=digest)
        with pytest.raises(Conflict, match=f"{job.id} needs it"):
            catalog.delete_adapter(tenant="default", adapter=adapter, force=True)
    catalog.delete_version(tenant="default", adapter="joe", version=other)
    catalog.delete_version(tenant="default", adapter=job.adapter, version=first)
    kept.catalog.ask("default", job.id, Move.CANCEL)
    for adapter in ("joe", job.adapter):
        catalog.delete_adapter(tenant="default", adapter=adapter, force=True)
    with pytest.raises(NotFound):
        kept.catalog.create(kept.spec(), tenant="default", start=start)
    kept.database.close()
