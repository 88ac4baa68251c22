"""Jobs in the database: what workers say, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from graft.adapters.errors import Conflict
from graft.server.errors import BadInput, LeaseLost
from graft.server.files.file import Purpose
from graft.server.jobs.job import News, Progress
from graft.server.jobs.policy.lease import MAX_LOSSES, Beat
from graft.server.jobs.policy.states import JobState, Move
from graft.server.jobs.store.working import NewCheckpoint, Report
from tests.server.jobs.keeping import WORKER, KeptJobs, holder, state
from tests.server.jobs.tending import TERM, tended


def test_a_job_from_its_making_to_its_end(kept: KeptJobs) -> None:
    job = kept.queued(metadata={"team": "x"}, suffix="mine")
    assert kept.catalog.get("default", job.id).spec == job.spec
    claimed = kept.claimed()
    assert (claimed.id, claimed.state, claimed.fence, claimed.worker) == (job.id, JobState.RUNNING, 1, "w")
    assert kept.catalog.claim("other", tenant=WORKER) is None
    report = Report(
        number=1,
        news=[News(message="step 1", data={"train_loss": 2.5}, is_metrics=True)],
        checkpoints=[NewCheckpoint(step=1, version_digest=kept.version(job), metrics={"train_loss": 2.5})],
        progress=Progress(step=1, num_steps=2, trained_tokens=64),
        resolved={"n_epochs": 3},
    )
    told = kept.catalog.report(holder(claimed), report)
    assert (told.progress.step, told.resolved) == (1, {"n_epochs": 3})
    result = kept.result(job)
    done = kept.catalog.finish(holder(claimed), result)
    assert (done.state, done.result, done.worker) == (JobState.SUCCEEDED, result, None) and done.finish_time
    (checkpoint,) = kept.catalog.checkpoints("default", job.id, before=None, limit=10)
    assert (checkpoint.step, checkpoint.metrics) == (1, {"train_loss": 2.5})
    assert kept.messages(job) == [
        f"The job {job.id} was made",
        f"Reading {job.spec.training_file}",
        "The files are sound; the job waits",
        "A worker began",
        "step 1",
        "The job has succeeded",
    ]
    states = [one.state for one in kept.catalog.events_before("default", job.id, None, limit=3)]
    assert states == [JobState.SUCCEEDED, JobState.RUNNING, JobState.RUNNING]


def test_a_result_that_is_none_is_refused_and_the_job_goes_on(kept: KeptJobs) -> None:
    kept.tenant("acme")
    kept.queued()
    job = kept.claimed()
    right, theirs = kept.result(job), kept.file("acme", purpose=Purpose.FINE_TUNE_RESULTS)
    unfit, elsewhere = kept.version(job, "2"), kept.version(job, "3", adapter="other")
    kept.unfit.add(unfit)
    for others, said in (
        (
            {"adapter": "other", "version_digest": elsewhere},
            {"result.adapter": "pushes to ft-", "result.version_digest": "no"},
        ),
        ({"version_digest": unfit}, {"result.version_digest": "does not fit"}),
        ({"version_digest": "1"}, {"result.version_digest": "the whole digest is sha256:"}),
        ({"version_digest": "nonsense"}, {"result.version_digest": "neither a number nor a digest"}),
        (
            {"result_files": (theirs, job.spec.training_file, *right.result_files)},
            {"result.result_files[0]": "there is no file", "result.result_files[1]": "was uploaded for fine-tune"},
        ),
    ):
        with pytest.raises(BadInput) as caught:
            kept.catalog.finish(holder(job), replace(right, **others))  # type: ignore[arg-type]
        found = {one.field: one.problem for one in caught.value.violations}
        assert found.keys() == said.keys() and all(words in found[field] for field, words in said.items())
    points = [
        NewCheckpoint(step=step, version_digest=one)
        for step, one in enumerate((unfit, elsewhere, right.version_digest))
    ]
    with pytest.raises(BadInput) as caught:
        kept.catalog.report(holder(job), Report(number=1, news=[News(message="no")], checkpoints=points))
    assert [one.field for one in caught.value.violations] == [f"checkpoints[{n}].version_digest" for n in (0, 1)]
    assert "no" not in kept.messages(job) and state(kept, job) is JobState.RUNNING
    assert kept.catalog.finish(holder(job), right).state is JobState.SUCCEEDED


def test_a_cancelled_job_is_lost_to_its_worker(kept: KeptJobs) -> None:
    kept.queued()
    job = kept.claimed()
    assert kept.catalog.ask("default", job.id, Move.CANCEL).state is JobState.CANCELLED
    for call in (
        lambda: kept.catalog.heartbeat(holder(job)),
        lambda: kept.catalog.report(holder(job), Report(number=1, news=[News(message="late")])),
        lambda: kept.catalog.finish(holder(job), kept.result(job)),
    ):
        with pytest.raises(LeaseLost, match="stop working"):
            call()
    assert "late" not in kept.messages(job)
    with pytest.raises(Conflict, match="it has ended"):
        kept.catalog.ask("default", job.id, Move.RESUME)


def test_a_silent_worker_loses_the_job_and_one_that_speaks_meanwhile_keeps_it(kept: KeptJobs) -> None:
    kept.queued()
    first = kept.claimed("one")
    seen = kept.catalog.held()[first.id]
    kept.catalog.heartbeat(holder(first))
    assert not kept.catalog.give_up(first.id, seen), "a heartbeat came between the look and the act"
    assert kept.catalog.give_up(first.id, kept.catalog.held()[first.id])
    second = kept.claimed("two")
    assert second.fence == first.fence + 1
    with pytest.raises(LeaseLost):
        kept.catalog.heartbeat(holder(first))
    assert not kept.catalog.give_up(first.id, Beat(fence=first.fence, beat=0))
    assert kept.catalog.heartbeat(holder(second)).state is JobState.RUNNING
    assert "Nothing was heard of the worker any more" in kept.messages(first)


def test_a_silent_worker_of_a_job_that_was_asked_to_pause_leaves_it_paused(kept: KeptJobs) -> None:
    kept.queued()
    job = kept.claimed()
    kept.catalog.ask("default", job.id, Move.PAUSE)
    assert kept.catalog.give_up(job.id, kept.catalog.held()[job.id]) and state(kept, job) is JobState.PAUSED


def test_a_job_that_takes_its_workers_with_it_fails(kept: KeptJobs) -> None:
    job = kept.queued()

    def lose(*, save: bool) -> None:
        claimed = kept.claimed()
        if save:
            kept.catalog.report(
                holder(claimed),
                Report(number=1, checkpoints=[NewCheckpoint(step=claimed.fence, version_digest=kept.version(claimed))]),
            )
        assert kept.catalog.give_up(job.id, kept.catalog.held()[job.id])

    for _ in range(2 * MAX_LOSSES):
        lose(save=True)
    for _ in range(MAX_LOSSES - 1):
        assert state(kept, job) is JobState.QUEUED
        lose(save=False)
    failed = kept.catalog.get("default", job.id)
    assert failed.state is JobState.FAILED and failed.error is not None and failed.error.code == "worker_lost"


async def test_the_wall_clock_may_move_by_hours(tmp_path: Path) -> None:
    """Upkeep goes by its own clock (fault F16): moved hours take no job from a worker, and keep none for a lost one."""
    async with tended(tmp_path) as one:
        kept = one.kept
        kept.queued()
        job = kept.claimed()
        for hours in (-1, 2, -3, 30):
            kept.time += timedelta(hours=hours)
            await one.upkeep.look_once()
            one.clock += TERM.server_seconds - 1
            await one.upkeep.look_once()
            assert kept.catalog.heartbeat(holder(job)).state is JobState.RUNNING
        assert kept.catalog.claim("other", tenant=WORKER) is None
        await one.upkeep.look_once()
        one.clock += TERM.server_seconds - 1
        kept.time -= timedelta(hours=9)
        await one.upkeep.look_once()
        assert state(kept, job) is JobState.RUNNING
        one.clock += 1
        await one.upkeep.look_once()
        assert state(kept, job) is JobState.QUEUED
        with pytest.raises(LeaseLost):
            kept.catalog.heartbeat(holder(job))
