"""What jobs have made, in memory: requests find `ft:` names there, and never wait for the database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import sqlalchemy as sa

from graft.adapters.catalog.database import Database
from graft.adapters.catalog.fine_tuned import FineTuned
from graft.server.jobs.job import Job, short_id
from graft.server.jobs.policy.states import ENDED, JobState
from graft.server.jobs.store import reads

_OPEN = frozenset(JobState) - ENDED
_MAX_PROBLEM_CHARACTERS = 300


class JobNames:
    """A picture of all jobs: each read anew after a write of this server's, and, for what others write, all in turn.

    An ended job never changes, so only the open ones, and those that were open, are read again.
    """

    def __init__(self, database: Database, *, publish: Callable[[Mapping[tuple[str, str], FineTuned]], None]) -> None:
        """`publish` is told what changed something, in the thread that refreshes, of which there is one at a time."""
        self._database = database
        self._publish = publish
        self._made: dict[str, tuple[str, FineTuned]] = {}
        self._ended: set[str] = set()

    def has(self, job: Job) -> bool:
        """Whether it is known that the job has ended, if it has."""
        return job.state not in ENDED or job.id in self._ended

    def refresh(self) -> None:
        """Take what changed since. Blocks on the database."""
        self._tell(is_news=self._database.read(self._read))

    def refresh_one(self, job: str) -> None:
        """Take what changed of this job. Blocks on the database."""
        self._tell(is_news=self._database.read(self._take, {job}))

    def _tell(self, *, is_news: bool) -> None:
        if is_news:
            self._publish({(tenant, short_id(job)): made for job, (tenant, made) in self._made.items()})

    def _read(self, connection: sa.Connection) -> bool:
        is_open = reads.ids_in(connection, _OPEN)
        wanted = is_open | (self._made.keys() - self._ended)
        # Another server may have made one and ended it between two looks.
        if reads.num_in(connection, ENDED) != len((self._made.keys() | wanted) - is_open):
            wanted |= reads.ids_in(connection, ENDED) - self._ended
        return self._take(connection, wanted)

    def _take(self, connection: sa.Connection, wanted: Collection[str]) -> bool:
        """Whether something is otherwise than it was known."""
        found = {job.id: (job, steps) for job, steps in reads.with_checkpoints(connection, wanted)}
        self._ended |= {one for one, (job, _) in found.items() if job.state in ENDED}
        made = {one: (job.tenant, _made(job, steps)) for one, (job, steps) in found.items()}
        is_news = any(self._made.get(one) != value for one, value in made.items())
        self._made |= made
        return is_news


def _made(job: Job, checkpoints: Mapping[int, str]) -> FineTuned:
    return FineTuned(
        suffix=job.spec.suffix or "",
        adapter=job.adapter,
        version_digest=None if job.result is None else job.result.version_digest,
        why_not=_why_not(job),
        checkpoints=checkpoints,
    )


def _why_not(job: Job) -> str:
    if job.spec.dry_run:
        return f"{job.id} is a dry run, which makes no model"
    if job.state is JobState.SUCCEEDED:
        return ""
    if job.error is not None:
        return f"{job.id} has failed, and made no model: {job.error.message[:_MAX_PROBLEM_CHARACTERS]}"
    if job.state is JobState.CANCELLED:
        return f"{job.id} was cancelled, and made no model; its checkpoints are called <this name>:ckpt-step-<N>"
    return f"{job.id} has not ended: it is {job.state.value}; checkpoints answer already as <this name>:ckpt-step-<N>"
