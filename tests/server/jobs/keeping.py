"""A catalog of jobs with files, on a database of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from graft.adapters.adapter import AdapterVersion
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import Database
from graft.adapters.errors import IncompatibleAdapter
from graft.server.files.catalog import FileCatalog
from graft.server.files.draft import FileDraft
from graft.server.files.file import Purpose
from graft.server.files.tables import MIGRATIONS as FILE_MIGRATIONS
from graft.server.jobs.catalog import JobCatalog
from graft.server.jobs.job import Job, JobResult, JobSpec, Method
from graft.server.jobs.policy.states import JobState
from graft.server.jobs.store.working import Holder
from graft.server.jobs.tables import MIGRATIONS
from tests.adapters.making import register

WORKER = "default"


class KeptJobs:
    """`now` goes on by a second with each look, or back: nothing is decided by it."""

    def __init__(self, url: str = "sqlite://", *, max_open: int = 1_000) -> None:
        self.database = Database.open(url, migrations=[FILE_MIGRATIONS, MIGRATIONS])
        self.time = datetime(2026, 11, 28, tzinfo=UTC)
        self.files = FileCatalog(self.database, max_bytes=1 << 30, now=self.now)
        self.catalog = JobCatalog(self.database, max_open=max_open, fits=self.fits, now=self.now)
        self.unfit: set[str] = set()

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time

    def fits(self, version: AdapterVersion) -> None:
        if version.digest in self.unfit:
            raise IncompatibleAdapter(f"{version.adapter}@{version.number} does not fit", [])

    def version(self, job: Job, content: str = "1", *, adapter: str | None = None) -> str:
        """The digest of a version of the job's adapter, or of another."""
        return register(
            Catalog(self.database), content, adapter=adapter or job.adapter, tenant=job.tenant, job=job.id
        ).digest

    def result(self, job: Job, **others: Any) -> JobResult:
        """What a worker says at the end, true but for `others`."""
        file = self.file(job.tenant, purpose=Purpose.FINE_TUNE_RESULTS)
        made = {
            "adapter": job.adapter,
            "version_digest": self.version(job),
            "trained_tokens": 7,
            "result_files": (file,),
        }
        return JobResult(**made | others)

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
        return self.catalog.create(self.spec(tenant, **others), tenant=tenant, start=lambda: None)

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


def state(kept: KeptJobs, job: Job) -> JobState:
    return kept.catalog.get(job.tenant, job.id).state


def numbers(kept: KeptJobs, job: Job) -> list[int]:
    return [one.number for one in kept.catalog.events_after(job.tenant, job.id, 0, limit=1_000)]
