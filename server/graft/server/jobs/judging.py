"""The files of new jobs, read and judged: a file that cannot be read holds up its own job only, and not for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

from graft.adapters.errors import BlobMissing, CatalogUnavailable, GraftError
from graft.server.errors import NoSuchResource
from graft.server.files.files import Files
from graft.server.jobs.job import Job, JobError
from graft.server.jobs.training_rows.reading import RowProblems, judge

_log = logging.getLogger(__name__)
MAX_TRIES = 8
_FIRST_PAUSE_SECONDS = 5.0
"""Doubled after each try: a store that is away for ten minutes loses nobody a job."""


class NotYet(Exception):
    """A job's files could not be read this time; they are tried again later."""


class Judging:
    """Judges the files of jobs, and remembers which could not be read and when to try again."""

    def __init__(
        self,
        files: Files,
        *,
        row_problems: Callable[[Mapping[str, Any]], RowProblems],
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`row_problems` tells of a grader what rows lack that it names; `now` is monotonic, in seconds."""
        self._files, self._row_problems, self._now = files, row_problems, now
        self._tries: dict[str, tuple[int, float]] = {}

    def due(self, unread: Iterable[Job]) -> list[Job]:
        """Those of all jobs that wait for it whose files are to be read now."""
        waiting = list(unread)
        known = {job.id for job in waiting}
        self._tries = {job: tried for job, tried in self._tries.items() if job in known}
        return [job for job in waiting if self._tries.get(job.id, (0, self._now()))[1] <= self._now()]

    async def judge(self, job: Job) -> JobError | None:
        """What is wrong with the job's files; None where nothing is.

        Raises `NotYet`, and CatalogUnavailable, which is no fault of the files.
        """
        found: list[tuple[str, str]] = []
        for field, file in job.spec.named_files.items():
            try:
                problem = await self._problem(job, field, file)
            except (BlobMissing, NoSuchResource) as error:
                _log.error("%s of %s is lost: %s", file, job.id, error)
                text = f"{field} {file} is lost: the server does not have its bytes any more; upload it again"
                return JobError(code="file_missing", message=text, param=field)
            except CatalogUnavailable:
                raise
            except Exception as error:
                return self._put_off(job, field, file, error)
            if problem is not None:
                found.append((field, problem))
        if not found:
            return None
        code = f"invalid_{found[0][0].replace('.', '_')}"
        return JobError(code=code, message=" | ".join(text for _, text in found), param=found[0][0])

    async def _problem(self, job: Job, field: str, file: str) -> str | None:
        grader = job.spec.grader
        # A gate brings a grader of its own, and rows for that.
        is_graded = grader is not None and field in ("training_file", "validation_file")
        more = self._row_problems(grader) if is_graded and grader is not None else _none
        kept, content = await self._files.open(job.tenant, file)
        with content:
            problems = await asyncio.to_thread(judge, content, job.spec.method, more)
        return None if problems is None else f"{field} {kept.filename} ({file}): {problems}"

    def _put_off(self, job: Job, field: str, file: str, error: Exception) -> JobError:
        """The job's error after the last try. Raises `NotYet` before."""
        num_tries = self._tries.get(job.id, (0, 0.0))[0] + 1
        if num_tries < MAX_TRIES:
            pause = _FIRST_PAUSE_SECONDS * 2 ** (num_tries - 1)
            self._tries[job.id] = (num_tries, self._now() + pause)
            raise NotYet(f"{field} {file} of {job.id} could not be read (try {num_tries})") from error
        is_known = isinstance(error, GraftError | OSError)
        _log.error("%s of %s could not be read", file, job.id, exc_info=None if is_known else error)
        text = f"{field} {file} could not be read in {num_tries} times; make the job again later, or ask the operator"
        return JobError(code="file_unreadable", message=text, param=field)


def _none(row: Mapping[str, Any]) -> Iterator[str]:
    return iter(())
