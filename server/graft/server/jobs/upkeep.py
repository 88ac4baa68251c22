"""What a server does for jobs by itself: it reads the files of new ones, and takes jobs from workers that are gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from time import monotonic
from typing import Any

from graft.adapters.errors import GraftError
from graft.server.files.files import Files
from graft.server.jobs.catalog import JobCatalog
from graft.server.jobs.job import Job, JobError
from graft.server.jobs.jobs import Jobs, changed
from graft.server.jobs.names import JobNames
from graft.server.jobs.policy.lease import Sightings, Term
from graft.server.jobs.training_rows.reading import RowProblems, judge
from graft.server.operations.job_metrics import JobMetrics
from graft.server.registry.thread import CatalogThread

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 5.0


class Upkeep:
    """Both loops. Safe beside other servers on the same database: what one has done, another finds done."""

    def __init__(
        self,
        jobs: Jobs,
        catalog: JobCatalog,
        thread: CatalogThread,
        files: Files,
        names: JobNames,
        *,
        term: Term,
        metrics: JobMetrics,
        row_problems: Callable[[Mapping[str, Any]], RowProblems],
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`row_problems` tells of a grader what rows lack that it names; `now` is monotonic, in seconds."""
        self._row_problems = row_problems
        self._jobs, self._catalog, self._thread, self._files = jobs, catalog, thread, files
        self._names = names
        self._term, self._now, self._metrics = term, now, metrics
        self._sightings = Sightings(term)

    async def read_files(self) -> None:
        """Judge the files of new jobs, for ever."""
        while True:
            change = self._jobs.changes.next()
            await self._attempt(self._read_all, "the files of new jobs were not read")
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
                _log.warning("%s was taken from its worker, of which nothing was heard", job)
                self._metrics.losses.inc()
                self._jobs.changes.happened()
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

    async def _read_all(self) -> None:
        for job in await self._thread.run(self._catalog.unread):
            error = await self._judged(job)
            if await self._thread.run(lambda job=job, error=error: self._catalog.judged(job, error)):  # type: ignore[misc]
                await self._thread.run(self._names.refresh)
                self._jobs.changes.happened()

    async def _judged(self, job: Job) -> JobError | None:
        found, grader = [], job.spec.grader
        of_grader = _none if grader is None else self._row_problems(grader)
        for field, file in job.spec.named_files.items():
            # A gate brings a grader of its own, and rows for that.
            more = of_grader if field in ("training_file", "validation_file") else _none
            kept, content = await self._files.open(job.tenant, file)
            with content:
                problems = await asyncio.to_thread(judge, content, job.spec.method, more)
            if problems is not None:
                found.append((field, f"{field} {kept.filename} ({file}): {problems}"))
        if not found:
            return None
        code = f"invalid_{found[0][0].replace('.', '_')}"
        return JobError(code=code, message=" | ".join(text for _, text in found), param=found[0][0])

    async def _attempt(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        try:
            await work()
        except (GraftError, OSError) as error:
            _log.warning("%s for now: %s", what, error)
        except Exception:
            _log.exception("%s for now", what)


def _none(row: Mapping[str, Any]) -> Iterator[str]:
    return iter(())
