"""A server's upkeep of jobs on kept ones, with real files in a store on disk and a monotonic clock that is set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.fine_tuned import FineTuned
from graft.adapters.store.staging import Staging
from graft.adapters.store.store import BlobStore
from graft.server.files.draft import FileDraft
from graft.server.files.file import Purpose
from graft.server.files.files import Files
from graft.server.jobs.job import Job
from graft.server.jobs.jobs import Jobs, changed
from graft.server.jobs.judging import Judging
from graft.server.jobs.names import JobNames
from graft.server.jobs.policy.lease import Term
from graft.server.jobs.policy.states import JobState
from graft.server.jobs.upkeep import Upkeep
from graft.server.operations.job_metrics import JobMetrics
from graft.server.registry.thread import CatalogThread
from tests.server.jobs.keeping import KeptJobs

TERM = Term(worker_seconds=10)


class Tended:
    """`clock` is what the server's monotonic clock says."""

    def __init__(self, kept: KeptJobs, folder: Path) -> None:
        self.kept, self.clock = kept, 0.0
        self.thread = CatalogThread(Catalog(kept.database), written=lambda catalog: None)
        self.blobs = folder / "blobs"
        self.store = BlobStore(str(self.blobs), local_dir=folder / "local")
        self.files = Files(kept.files, self.thread, self.store, Staging(folder / "staged"))
        self.told: list[Mapping[tuple[str, str], FineTuned]] = []
        names = JobNames(kept.database, publish=self.told.append)
        metrics = JobMetrics(CollectorRegistry())
        self.jobs = Jobs(kept.catalog, self.thread, names, start=lambda spec, tenant: None, metrics=metrics)
        self.judging = Judging(self.files, row_problems=_nothing, now=lambda: self.clock)
        self.upkeep = Upkeep(
            self.jobs,
            kept.catalog,
            self.thread,
            self.judging,
            names,
            term=TERM,
            metrics=metrics,
            now=lambda: self.clock,
        )

    async def uploaded(self, content: bytes) -> str:
        draft = FileDraft(purpose=Purpose.FINE_TUNE, filename="rows.jsonl")
        return (await self.files.upload(draft, _chunks(content), tenant="default")).id

    def lose(self, file: str) -> None:
        """The store does not have the file's bytes any more."""
        sha256 = self.kept.files.get("default", file).blob.sha256
        (path,) = (one for one in self.blobs.rglob("*") if one.is_file() and sha256 in one.as_posix().replace("/", ""))
        path.unlink()

    async def reached(self, job: Job, state: JobState) -> Job:
        """The job, when it is in this state."""
        async with asyncio.timeout(20):
            while True:
                change = self.jobs.changes.next(job.id)
                found = await self.jobs.get(job.tenant, job.id)
                if found.state is state:
                    return found
                await changed(change, 20)


@asynccontextmanager
async def tended(folder: Path) -> AsyncGenerator[Tended, None]:
    """On a database of its own."""
    one = Tended(KeptJobs(f"sqlite:///{folder}/c.db"), folder)
    try:
        yield one
    finally:
        await one.thread.close()


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _nothing(grader: Mapping[str, Any]) -> Any:
    def problems(row: Mapping[str, Any]) -> Iterator[str]:
        return iter(())

    return problems
