"""Jobs in the database: what users ask, and what they see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from graft.adapters.errors import Conflict, NotFound
from graft.server.errors import BadInput, LeaseLost, NoSuchResource, QuotaExceeded
from graft.server.files.file import Purpose
from graft.server.jobs.job import JobError, News, Start
from graft.server.jobs.policy.states import JobState, Move
from graft.server.jobs.store.reads import JobListing
from graft.server.jobs.store.working import Holder, Report
from tests.server.jobs.keeping import KeptJobs, holder, numbers, state


def deleted() -> Start | None:
    raise NotFound("there is no such model any more")


def test_what_is_repeated_is_answered_again_and_not_done_again(kept: KeptJobs) -> None:
    spec = kept.spec()
    job = kept.catalog.create(spec, tenant="default", start=lambda: None, request_id="c")
    # Without a seed, and though its model was deleted since.
    again = kept.catalog.create(spec, tenant="default", start=deleted, request_id="c")
    assert again == job and spec.seed is None and isinstance(job.spec.seed, int)
    for other in (kept.spec(), replace(spec, seed=job.spec.seed)):
        with pytest.raises(Conflict, match="another call"):
            kept.catalog.create(other, tenant="default", start=lambda: None, request_id="c")
    with pytest.raises(NotFound):
        kept.catalog.create(spec, tenant="default", start=deleted, request_id="d")
    assert kept.catalog.judged(job, None) and not kept.catalog.judged(job, None)
    first = kept.claimed(request_id="k")
    assert kept.claimed(request_id="k") == first
    report = Report(number=1, news=[News(message="once")])
    for _ in range(3):
        kept.catalog.report(holder(first), report)
    assert kept.messages(job).count("once") == 1
    for _ in range(2):
        paused = kept.catalog.ask("default", job.id, Move.PAUSE)
        assert paused.state is JobState.PAUSING
    for _ in range(2):
        assert kept.catalog.finish(holder(first), None).state is JobState.PAUSED
    with pytest.raises(LeaseLost):
        kept.claimed(request_id="k")
    assert kept.catalog.ask("default", job.id, Move.RESUME, request_id="r").state is JobState.QUEUED
    second = kept.claimed()
    assert second.fence == 2 and "goes on" in kept.messages(job)[-1]
    # A resumption that is repeated late resumes nothing that was paused since.
    kept.catalog.ask("default", job.id, Move.PAUSE)
    assert kept.catalog.ask("default", job.id, Move.RESUME, request_id="r").state is JobState.PAUSING
    result = kept.result(job)
    for _ in range(2):
        assert kept.catalog.finish(holder(second), result).state is JobState.SUCCEEDED
    assert numbers(kept, job) == list(range(1, len(numbers(kept, job)) + 1))


def test_files_are_needed_until_the_job_ends(kept: KeptJobs) -> None:
    training, validation = kept.file(), kept.file()
    job = kept.made(training_file=training, validation_file=validation)
    for file in (training, validation):
        with pytest.raises(Conflict, match=f"{job.id} uses it"):
            kept.files.delete("default", file)
    kept.catalog.ask("default", job.id, Move.CANCEL)
    for file in (training, validation):
        kept.files.delete("default", file)


def test_files_that_cannot_be_used_are_all_named(kept: KeptJobs) -> None:
    theirs = kept.file(kept.tenant("acme"))
    with pytest.raises(BadInput) as caught:
        kept.made(training_file=kept.file(purpose=Purpose.BATCH), validation_file=theirs)
    assert [one.field for one in caught.value.violations] == ["training_file", "validation_file"]
    assert "acme" not in str(caught.value)


def test_files_that_are_not_sound_end_the_job(kept: KeptJobs) -> None:
    job = kept.made()
    error = JobError(code="invalid_training_file", message="line 3: is not JSON", param="training_file")
    assert kept.catalog.judged(job, error)
    failed = kept.catalog.get("default", job.id)
    assert (failed.state, failed.error) == (JobState.FAILED, error) and kept.catalog.unread() == ()
    kept.files.delete("default", job.spec.training_file)


def test_tenants_see_their_own_only(kept: KeptJobs) -> None:
    job = kept.queued(kept.tenant("acme"))
    assert kept.catalog.listed("default", JobListing(limit=9)) == ((), False)
    for call in (
        lambda: kept.catalog.get("default", job.id),
        lambda: kept.catalog.ask("default", job.id, Move.CANCEL),
        lambda: kept.catalog.events_after("default", job.id, 0, limit=1),
        lambda: kept.catalog.checkpoints("default", job.id, before=None, limit=1),
    ):
        with pytest.raises(NoSuchResource):
            call()
    assert state(kept, job) is JobState.QUEUED


@pytest.mark.parametrize("job", ["a\0b", "ftjob-\ud800", "", "ftjob-" + "7" * 27])
def test_what_is_no_id_no_database_is_asked_for(kept: KeptJobs, job: str) -> None:
    sent: list[object] = []
    sa.event.listen(kept.database._engine, "before_cursor_execute", lambda *call: sent.append(call[3]))
    right = Holder(job=job, fence=1)
    for call in (
        lambda: kept.catalog.get("default", job),
        lambda: kept.catalog.ask("default", job, Move.PAUSE),
        lambda: kept.catalog.events_after("default", job, 0, limit=1),
        lambda: kept.catalog.checkpoints("default", job, before=None, limit=1),
        lambda: kept.catalog.holding(right),
        lambda: kept.catalog.heartbeat(right),
        lambda: kept.catalog.report(right, Report(number=1)),
        lambda: kept.catalog.finish(right, None),
    ):
        with pytest.raises(NoSuchResource):
            call()
    assert job not in [value for values in sent for value in values]  # type: ignore[attr-defined]


def test_lists_are_newest_first_and_filtered(kept: KeptJobs) -> None:
    made = [kept.made(metadata={"n": str(n % 2), "x": ""} if n else {}).id for n in range(5)][::-1]

    def listed(**listing: object) -> list[str]:
        seen: list[str] = []
        more = True
        while more:
            found, more = kept.catalog.listed(
                "default",
                JobListing(limit=2, after=seen[-1] if seen else None, **listing),  # type: ignore[arg-type]
            )
            seen += [one.id for one in found]
        return seen

    assert listed() == made
    assert listed(metadata={"n": "1"}) == [made[1], made[3]] and listed(metadata={"n": "1", "x": "y"}) == []
    assert listed(metadata=None) == [made[4]] and listed(metadata={"x": ""}) == made[:4]
    assert listed(state=JobState.QUEUED) == []
    with pytest.raises(BadInput, match="no id of a job"):
        kept.catalog.listed("default", JobListing(limit=1, after="file-1"))


def test_a_tenant_has_so_many_jobs_under_way() -> None:
    kept = KeptJobs(max_open=2)
    job = kept.made()
    kept.made()
    with pytest.raises(QuotaExceeded, match=r"the limit is 2 \(max_jobs\)"):
        kept.made()
    kept.catalog.ask("default", job.id, Move.CANCEL)
    kept.made()
    kept.database.close()
