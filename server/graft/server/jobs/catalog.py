"""The catalog of jobs: transactions over them. Synchronous and safe for threads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from graft.adapters.catalog.database import Database
from graft.server.jobs.job import Job, JobCheckpoint, JobError, JobEvent, JobSpec, Start
from graft.server.jobs.policy.lease import Beat
from graft.server.jobs.policy.states import JobState, Move
from graft.server.jobs.store import asking, reads, working
from graft.server.jobs.store.asking import JobDraft
from graft.server.jobs.store.made import Fits
from graft.server.jobs.store.reads import JobListing
from graft.server.jobs.store.standing import Standing, standing
from graft.server.jobs.store.working import Holder, Outcome, Report


def _utc_now() -> datetime:
    return datetime.now(UTC)


class JobCatalog:
    """On the catalog's database, opened with `tables.MIGRATIONS` and the files'. Every method may raise what the
    catalog's do. `now` is shown to people; nothing is decided by it.
    """

    def __init__(
        self, database: Database, *, max_open: int, fits: Fits, now: Callable[[], datetime] = _utc_now
    ) -> None:
        """`max_open` bounds a tenant's jobs that have not ended; `fits` refuses versions of other bases."""
        self._database = database
        self._max_open = max_open
        self._fits = fits
        self._now = now

    def create(
        self, spec: JobSpec, *, tenant: str, start: Callable[[], Start | None], request_id: str | None = None
    ) -> Job:
        """Make a job, which goes on from what `start` finds, which is asked once for a request's id.

        Raises `BadInput` for its files, `QuotaExceeded`, NotFound, Conflict for the request's id; what `start` does.
        """
        draft = JobDraft(tenant=tenant, spec=spec, start=start, max_open=self._max_open)
        return self._database.write(asking.create, draft, request_id=request_id, now=self._now())

    def get(self, tenant: str, job: str) -> Job:
        """One job. Raises `NoSuchResource`."""
        return self._database.read(reads.get, tenant, job)

    def listed(self, tenant: str, listing: JobListing) -> tuple[tuple[Job, ...], bool]:
        """A part of the tenant's jobs, and whether there are more. Raises `BadInput`."""
        return self._database.read(reads.listed, tenant, listing)

    def ask(self, tenant: str, job: str, what: Move, *, request_id: str | None = None) -> Job:
        """Pause, resume or cancel. Raises `NoSuchResource`; Conflict where it cannot be now."""
        return self._database.write(asking.ask, tenant, job, what, request_id=request_id, now=self._now())

    def events_after(self, tenant: str, job: str, number: int, *, limit: int) -> tuple[JobEvent, ...]:
        """The oldest behind this number. Raises `NoSuchResource`."""
        return self._database.read(reads.events, tenant, job, after=number, limit=limit)

    def events_before(self, tenant: str, job: str, number: int | None, *, limit: int) -> tuple[JobEvent, ...]:
        """The newest before this number, or of all. Raises `NoSuchResource`."""
        return self._database.read(reads.events, tenant, job, before=number, limit=limit)

    def checkpoints(self, tenant: str, job: str, *, before: int | None, limit: int) -> tuple[JobCheckpoint, ...]:
        """The newest before this step, or of all. Raises `NoSuchResource`."""
        return self._database.read(reads.checkpoints, tenant, job, before=before, limit=limit)

    def claim(self, worker: str, *, tenant: str, request_id: str | None = None) -> Job | None:
        """Give a worker the next job. Raises `LeaseLost` where a repeated claim's job was lost since."""
        # Those who wait for work ask often, and write only where there is some.
        if not self._database.read(working.may_claim, worker, tenant=tenant, request_id=request_id):
            return None
        return self._database.write(working.claim, worker, tenant=tenant, request_id=request_id, now=self._now())

    def holding(self, holder: Holder) -> Job:
        """The job, while the worker has it. Raises `LeaseLost`."""
        return self._database.read(working.holding, holder)

    def heartbeat(self, holder: Holder) -> Job:
        """A worker is there. Raises `LeaseLost`."""
        return self._database.write(working.heartbeat, holder)

    def report(self, holder: Holder, report: Report) -> Job:
        """Keep what a worker tells. Raises `LeaseLost`, `BadInput`."""
        return self._database.write(working.report, holder, report, fits=self._fits, now=self._now())

    def finish(self, holder: Holder, outcome: Outcome) -> Job:
        """A worker ends. Raises `LeaseLost`; `BadInput` for a result that is none."""
        return self._database.write(working.finish, holder, outcome, fits=self._fits, now=self._now())

    def held(self) -> dict[str, Beat]:
        """All jobs that workers have."""
        return self._database.read(reads.held)

    def standing(self) -> Standing:
        """How the queue stands."""
        return self._database.read(standing, now=self._now())

    def give_up(self, job: str, seen: Beat) -> bool:
        """Take a job from a worker of which nothing was heard since; False where something was."""
        return self._database.write(working.give_up, job, seen, now=self._now())

    def unread(self) -> tuple[Job, ...]:
        """Jobs whose files are to be read."""
        return self._database.read(reads.in_state, JobState.VALIDATING_FILES)

    def judged(self, job: Job, error: JobError | None) -> bool:
        """A job's files were read; False where it does not wait for that (any more)."""
        return self._database.write(asking.judged, job, error, now=self._now())
