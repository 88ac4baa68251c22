"""What a server does for jobs by itself: it reads the files of new ones, and takes jobs from workers that are gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from graft.adapters.errors import GraftError
from graft.server.jobs.catalog import JobCatalog
from graft.server.jobs.job import Job
from graft.server.jobs.jobs import Jobs, changed
from graft.server.jobs.judging import Judging, NotYet
from graft.server.jobs.names import JobNames
from graft.server.jobs.policy.lease import Sightings, Term
from graft.server.jobs.policy.states import JobState
from graft.server.operations.job_metrics import JobMetrics
from graft.server.registry.thread import CatalogThread

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 5.0
# Each has a copy of one file on the disk meanwhile.
_MAX_READ = 4


class Upkeep:
    """The loops. Safe beside other servers on the same database: what one has done, another finds done."""

    def __init__(
        self,
        jobs: Jobs,
        catalog: JobCatalog,
        thread: CatalogThread,
        judging: Judging,
        names: JobNames,
        *,
        term: Term,
        metrics: JobMetrics,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`now` is monotonic, in seconds."""
        self._jobs, self._catalog, self._thread, self._judging = jobs, catalog, thread, judging
        self._names = names
        self._term, self._now, self._metrics = term, now, metrics
        self._sightings = Sightings(term)

    async def read_files(self) -> None:
        """Judge the files of new jobs, for ever: a few at a time, each job as soon as there is room."""
        room, reading = asyncio.Semaphore(_MAX_READ), set[str]()

        async def read(job: Job) -> None:
            try:
                async with room:
                    await self._attempt(lambda: self._read(job), f"the files of {job.id} were not read")
            finally:
                reading.discard(job.id)

        async def begin() -> None:
            for job in self._judging.due(await self._thread.run(self._catalog.unread)):
                if job.id not in reading:
                    reading.add(job.id)
                    group.create_task(read(job))

        async with asyncio.TaskGroup() as group:
            while True:
                change = self._jobs.changes.next(JobState.VALIDATING_FILES)
                await self._attempt(begin, "new jobs were not looked for")
                await changed(change, _LOOK_SECONDS)

    async def look_after(self) -> None:
        """Give up workers that are silent for the whole term, for ever."""
        while True:
            await self._attempt(self.look_once, "workers were not looked after")
            await asyncio.sleep(self._term.look_seconds)

    async def look_once(self) -> None:
        """Look at all workers now."""
        held = await self._thread.run(self._catalog.held)
        for job, seen in self._sightings.look(held, now=self._now()).items():
            if await self._thread.run(lambda job=job, seen=seen: self._catalog.give_up(job, seen)):  # type: ignore[misc]
                _log.warning("%s was taken from its worker (claim %d), of which nothing was heard", job, seen.fence)
                self._metrics.losses.inc()
                self._jobs.changes.happened(job, JobState.QUEUED)
        now = await self._thread.run(self._catalog.standing)
        self._metrics.saw_queue(
            {state.value: num for state, num in now.num_by_state.items()},
            oldest_waiting_seconds=now.oldest_waiting_seconds,
            heard_at=self._sightings.heard_at,
        )

    async def read_names(self) -> None:
        """Hear what other servers did with jobs, for ever."""
        while True:
            await self._attempt(lambda: self._thread.run(self._names.refresh), "names of models of jobs were not read")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self, job: Job) -> None:
        try:
            error = await self._judging.judge(job)
        except NotYet as reason:
            _log.warning("%s: %s", reason, reason.__cause__)
            return
        if await self._thread.run(lambda: self._catalog.judged(job, error)):
            await self._thread.run(lambda: self._names.refresh_one(job.id))
            self._jobs.changes.happened(job.id, JobState.QUEUED if error is None else JobState.FAILED)

    async def _attempt(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        try:
            await work()
        except (GraftError, OSError) as error:
            _log.warning("%s for now: %s", what, error)
        except Exception:
            _log.exception("%s for now", what)
