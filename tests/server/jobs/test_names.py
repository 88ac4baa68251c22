"""Names of what jobs made: in memory, on every server that has the database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import event

from graft.adapters.catalog.fine_tuned import FineTuned
from graft.server.jobs.job import JobError, short_id
from graft.server.jobs.names import JobNames
from graft.server.jobs.policy.states import Move
from graft.server.jobs.store.working import NewCheckpoint, Report
from tests.server.jobs.keeping import WORKER, KeptJobs, holder
from tests.server.jobs.tending import tended

Made = Mapping[tuple[str, str], FineTuned]


class Picture:
    """What one server knows of jobs."""

    def __init__(self, kept: KeptJobs) -> None:
        self.told: list[Made] = []
        self.names = JobNames(kept.database, publish=self.told.append)

    def refreshed(self) -> Made:
        self.names.refresh()
        return self.told[-1]


def test_what_jobs_made_is_known_as_it_is_made() -> None:
    kept = KeptJobs()
    picture = Picture(kept)
    picture.names.refresh()
    assert not picture.told
    job = kept.queued(suffix="mine")
    key = ("default", short_id(job.id))
    known = picture.refreshed()[key]
    assert (known.suffix, known.adapter, known.version_digest) == ("mine", f"ft-{key[1]}", None)
    assert "has not ended: it is queued" in known.why_not
    claimed = kept.claimed()
    digest = kept.version(job)
    kept.catalog.report(holder(claimed), Report(number=1, checkpoints=[NewCheckpoint(step=3, version_digest=digest)]))
    assert picture.refreshed()[key].checkpoints == {3: digest}
    result = kept.result(job)
    done = kept.catalog.finish(holder(claimed), result)
    assert not picture.names.has(done)
    known = picture.refreshed()[key]
    assert (known.version_digest, known.why_not, known.checkpoints) == (result.version_digest, "", {3: digest})
    num_told = len(picture.told)
    for _ in range(3):
        picture.names.refresh()
    assert picture.names.has(done) and len(picture.told) == num_told
    kept.database.close()


@pytest.mark.parametrize("how", ["fail", "cancel", "dry_run"])
def test_a_job_that_made_nothing_says_why(how: str) -> None:
    kept = KeptJobs()
    picture = Picture(kept)
    job = kept.queued(adapter="support", dry_run=how == "dry_run")
    if how == "fail":
        kept.catalog.finish(holder(kept.claimed()), JobError(code="out_of_memory", message="too large by 3 GiB"))
    elif how == "cancel":
        kept.catalog.ask("default", job.id, Move.CANCEL)
    known = picture.refreshed()["default", short_id(job.id)]
    words = {"fail": "made no model: too large by 3 GiB", "cancel": "was cancelled", "dry_run": "is a dry run"}[how]
    assert words in known.why_not and (known.adapter, known.version_digest) == ("support", None)
    kept.database.close()


def test_what_another_server_did_is_seen_and_ended_jobs_are_not_read_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/c.db"
    here, there = KeptJobs(url), KeptJobs(url)
    picture = Picture(here)
    known_before = there.queued()
    picture.names.refresh()
    for number in range(3):
        # Made and ended between two looks, and one that was known as open.
        job = there.queued() if number else known_before
        claimed = there.claimed()
        assert claimed.id == job.id
        there.catalog.finish(holder(claimed), there.result(job))
    assert {one.version_digest is not None for one in picture.refreshed().values()} == {True}
    assert len(picture.told[-1]) == 3
    sent: list[str] = []
    event.listen(here.database._engine, "before_cursor_execute", lambda *call: sent.append(call[2]))
    picture.names.refresh()
    assert not any("jobs.spec" in one for one in sent)
    for kept in (here, there):
        kept.database.close()


async def test_a_write_reads_its_own_job_only(tmp_path: Path) -> None:
    async with tended(tmp_path) as one:
        jobs = [one.kept.queued() for _ in range(5)]
        claimed = await one.jobs.claim("w", tenant=WORKER, request_id=None, wait_seconds=0)
        assert claimed is not None
        asked: list[object] = []
        event.listen(one.kept.database._engine, "before_cursor_execute", lambda *call: asked.append(call[3]))
        digest = one.kept.version(claimed)
        report = Report(number=1, checkpoints=[NewCheckpoint(step=3, version_digest=digest)])
        asked.clear()
        await one.jobs.report(holder(claimed), report)
        assert one.told[-1]["default", short_id(claimed.id)].checkpoints == {3: digest}
        said = {value for values in asked for value in values}  # type: ignore[attr-defined]
        assert claimed.id in said and not said & {job.id for job in jobs if job.id != claimed.id}
