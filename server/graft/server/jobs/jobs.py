"""What can be done with jobs: a tenant's verbs, a worker's, and watching."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from graft.server.jobs.catalog import JobCatalog
from graft.server.jobs.job import Job, JobCheckpoint, JobEvent, JobSpec, Start
from graft.server.jobs.names import JobNames
from graft.server.jobs.policy.states import ENDED, JobState, Move
from graft.server.jobs.store.reads import JobListing
from graft.server.jobs.store.working import Holder, Outcome, Report
from graft.server.operations.job_metrics import JobMetrics
from graft.server.registry.thread import CatalogThread

_log = logging.getLogger(__name__)
# What other servers write is seen so late.
_LOOK_SECONDS = 2.0
_MAX_EVENTS = 1_000
Written = TypeVar("Written", Job, Job | None)


class Changes:
    """That something changed, for those who wait in the event loop: for one job, or for any in a state."""

    def __init__(self) -> None:
        # As long as somebody waits.
        self._events: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def happened(self, job: str, state: JobState) -> None:
        """Wake who waits for the job, and who waits for any that is in this state."""
        for name in (job, state.value):
            event = self._events.pop(name, None)
            if event is not None:
                event.set()

    def next(self, name: str | JobState) -> asyncio.Event:
        """Set at the next change of the job, or of any into the state: taken before one looks, so none is missed."""
        return self._events.setdefault(str(name), asyncio.Event())


async def changed(event: asyncio.Event, seconds: float) -> None:
    """Wait for a change, or for so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


class Jobs:
    """The verbs, in the catalog's thread. Every write is told to `changes`."""

    def __init__(
        self,
        catalog: JobCatalog,
        thread: CatalogThread,
        names: JobNames,
        *,
        start: Callable[[JobSpec, str], Start | None],
        metrics: JobMetrics,
    ) -> None:
        """`start` says, in the catalog's thread, from what a tenant's training begins.

        Raises NotFound for its model, `BadInput`.
        """
        self._catalog = catalog
        self._names = names
        self._start = start
        self._thread = thread
        self._metrics = metrics
        self.changes = Changes()

    async def create(self, spec: JobSpec, *, tenant: str, request_id: str | None) -> Job:
        """Make a job, whose files are read next. Raises `BadInput`, `QuotaExceeded`, NotFound, Conflict."""

        def start() -> Start | None:
            return self._start(spec, tenant)

        return await self._write(lambda: self._catalog.create(spec, tenant=tenant, start=start, request_id=request_id))

    async def get(self, tenant: str, job: str) -> Job:
        """One job. Raises `NoSuchResource`."""

        def get() -> Job:
            found = self._catalog.get(tenant, job)
            # Who hears from here that a job has succeeded, on whichever server, asks for its model next.
            if not self._names.has(found):
                self._names.refresh_one(found.id)
            return found

        return await self._thread.run(get)

    async def listed(self, tenant: str, listing: JobListing) -> tuple[tuple[Job, ...], bool]:
        """A part of the tenant's jobs, newest first, and whether there are more. Raises `BadInput`."""
        return await self._thread.run(lambda: self._catalog.listed(tenant, listing))

    async def ask(self, tenant: str, job: str, what: Move, *, request_id: str | None) -> Job:
        """Pause, resume or cancel. Raises `NoSuchResource`; Conflict where it cannot be now."""
        return await self._write(lambda: self._catalog.ask(tenant, job, what, request_id=request_id))

    async def events(self, tenant: str, job: str, *, before: int | None, limit: int) -> tuple[JobEvent, ...]:
        """Newest first. Raises `NoSuchResource`."""
        return await self._thread.run(lambda: self._catalog.events_before(tenant, job, before, limit=limit))

    async def checkpoints(self, tenant: str, job: str, *, before: int | None, limit: int) -> tuple[JobCheckpoint, ...]:
        """Newest first. Raises `NoSuchResource`."""
        return await self._thread.run(lambda: self._catalog.checkpoints(tenant, job, before=before, limit=limit))

    async def watch(self, tenant: str, job: str, *, after: int) -> AsyncGenerator[JobEvent, None]:
        """Events behind a number, each once and in order, as they come; ends with the last of a job that has ended.

        Raises `NoSuchResource`.
        """
        while True:
            change = self.changes.next(job)
            # Asked first: what has ended by then has told all that it will.
            is_over = (await self.get(tenant, job)).state in ENDED
            found = await self._thread.run(
                lambda after=after: self._catalog.events_after(tenant, job, after, limit=_MAX_EVENTS)  # type: ignore[misc]
            )
            for event in found:
                yield event
            after = found[-1].number if found else after
            if not found:
                if is_over:
                    return
                await changed(change, _LOOK_SECONDS)

    async def claim(self, worker: str, *, tenant: str, request_id: str | None, wait_seconds: float) -> Job | None:
        """Give a worker the next job, when there is one; None where none came in time. Raises `LeaseLost`."""
        deadline = asyncio.get_running_loop().time() + wait_seconds
        while True:
            change = self.changes.next(JobState.QUEUED)
            job = await self._write(lambda: self._catalog.claim(worker, tenant=tenant, request_id=request_id))
            left = deadline - asyncio.get_running_loop().time()
            if job is not None:
                _log.info("%s was given to the worker %r (claim %d)", job.id, worker, job.fence)
                self._metrics.claimed(job.id, job.fence, job.progress.trained_tokens)
            if job is not None or left <= 0:
                return job
            await changed(change, min(left, _LOOK_SECONDS))

    async def holding(self, holder: Holder) -> Job:
        """The job, while the worker has it. Raises `LeaseLost`."""
        return await self._thread.run(lambda: self._catalog.holding(holder))

    async def heartbeat(self, holder: Holder) -> Job:
        """A worker is there; the job's state says what it shall do. Raises `LeaseLost`."""
        return await self._thread.run(lambda: self._catalog.heartbeat(holder))

    async def report(self, holder: Holder, report: Report) -> Job:
        """Keep what a worker tells. Raises `LeaseLost`; `BadInput` for checkpoints that are none."""
        job = await self._write(lambda: self._catalog.report(holder, report))
        self._metrics.trained(job.id, job.fence, job.progress.trained_tokens)
        return job

    async def finish(self, holder: Holder, outcome: Outcome) -> Job:
        """A worker ends. Raises `LeaseLost`; `BadInput` for a result that is none."""
        job = await self._write(lambda: self._catalog.finish(holder, outcome))
        if outcome is not None:
            self._metrics.ended(job.id, job.state.value)
        if job.result is not None:
            self._metrics.trained(job.id, job.fence, job.result.trained_tokens)
        return job

    async def _write(self, call: Callable[[], Written]) -> Written:
        def write() -> Written:
            done = call()
            if done is not None:
                self._names.refresh_one(done.id)
            return done

        done = await self._thread.run(write)
        if done is not None:
            self.changes.happened(done.id, done.state)
        return done
