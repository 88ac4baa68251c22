"""A catalog of jobs with files, on a database of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import Database
from graft.server.files.catalog import FileCatalog
from graft.server.files.draft import FileDraft
from graft.server.files.file import Purpose
from graft.server.files.tables import MIGRATIONS as FILE_MIGRATIONS
from graft.server.jobs.catalog import JobCatalog
from graft.server.jobs.job import Job, JobSpec, Method
from graft.server.jobs.store.working import Holder
from graft.server.jobs.tables import MIGRATIONS

WORKER = "default"


class KeptJobs:
    """`now` goes on by a second with each look, or back: nothing is decided by it."""

    def __init__(self, url: str = "sqlite://", *, max_open: int = 1_000) -> None:
        self.database = Database.open(url, migrations=[FILE_MIGRATIONS, MIGRATIONS])
        self.time = datetime(2026, 11, 28, tzinfo=UTC)
        self.files = FileCatalog(self.database, max_bytes=1 << 30, now=self.now)
        self.catalog = JobCatalog(self.database, max_open=max_open, now=self.now)

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time

    def tenant(self, name: str) -> str:
        Catalog(self.database).register_tenant(name)
        return name

    def file(self, tenant: str = "default", *, size: int = 10, purpose: Purpose = Purpose.FINE_TUNE) -> str:
        draft = FileDraft(purpose=purpose, filename="rows.jsonl")
        return self.files.add(draft, tenant=tenant, size_bytes=size, sha256="0" * 64).id

    def spec(self, tenant: str = "default", **others: Any) -> JobSpec:
        file = others.pop("training_file", None) or self.file(tenant, size=others.pop("size", 10))
        return JobSpec(**{"method": Method.SUPERVISED, "model": "tiny", "training_file": file, **others})

    def made(self, tenant: str = "default", **others: Any) -> Job:
        return self.catalog.create(self.spec(tenant, **others), tenant=tenant)

    def queued(self, tenant: str = "default", **others: Any) -> Job:
        job = self.made(tenant, **others)
        assert self.catalog.judged(job, None)
        return self.catalog.get(tenant, job.id)

    def claimed(self, worker: str = "w", **others: Any) -> Job:
        job = self.catalog.claim(worker, tenant=WORKER, **others)
        assert job is not None
        return job

    def messages(self, job: Job) -> list[str]:
        return [one.news.message for one in self.catalog.events_after(job.tenant, job.id, 0, limit=1_000)]


def holder(job: Job) -> Holder:
    return Holder(job=job.id, fence=job.fence)
