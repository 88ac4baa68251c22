"""Jobs in the database: what users ask, what workers say, and what is told of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.adapters.catalog.database import VERSION_TABLE
from graft.adapters.errors import Conflict, GraftError, NotFound
from graft.server.errors import BadInput, LeaseLost, NoSuchResource, QuotaExceeded
from graft.server.files.file import Purpose
from graft.server.jobs.job import Job, JobError, News, Progress, Start
from graft.server.jobs.policy.lease import MAX_LOSSES, Beat
from graft.server.jobs.policy.states import ENDED, HELD, JobState, Move
from graft.server.jobs.store.reads import JobListing
from graft.server.jobs.store.working import Holder, NewCheckpoint, Report
from graft.server.jobs.tables import metadata
from tests.server.jobs.keeping import WORKER, KeptJobs, holder
from tests.server.jobs.tending import TERM, tended


@pytest.fixture
def kept() -> Iterator[KeptJobs]:
    kept = KeptJobs()
    yield kept
    kept.database.close()


def state(kept: KeptJobs, job: Job) -> JobState:
    return kept.catalog.get(job.tenant, job.id).state


def numbers(kept: KeptJobs, job: Job) -> list[int]:
    return [one.number for one in kept.catalog.events_after(job.tenant, job.id, 0, limit=1_000)]


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


def test_two_hundred_jobs_of_four_tenants_are_claimed_in_turns(kept: KeptJobs) -> None:
    tenants = [kept.tenant(name) for name in ("a", "b", "c", "d")]
    for tenant in tenants:
        file = kept.file(tenant)
        for _ in range(50):
            kept.queued(tenant, training_file=file)
    order = []
    for _ in range(200):
        job = kept.claimed()
        order.append(job.tenant)
        kept.catalog.finish(holder(job), kept.result(job))
    for begin in range(0, 200, 4):
        assert sorted(order[begin : begin + 4]) == tenants


def test_epochs_cost_the_same_in_a_number_and_as_what_auto_most_often_is(kept: KeptJobs) -> None:
    asked: dict[str, dict[str, int | str]] = {
        kept.tenant("a"): {},
        kept.tenant("b"): {"n_epochs": "auto"},
        kept.tenant("c"): {"n_epochs": 3},
    }
    for _ in range(4):
        for tenant, hyperparameters in asked.items():
            kept.queued(tenant, hyperparameters=hyperparameters)
    order = [kept.claimed().tenant for _ in range(12)]
    for begin in range(0, 12, 3):
        assert sorted(order[begin : begin + 3]) == ["a", "b", "c"]


def test_many_workers_at_once_never_get_one_job(tmp_path: Path) -> None:
    """Two servers on one database, four workers on each."""
    url = f"sqlite:///{tmp_path}/c.db"
    servers = [KeptJobs(url), KeptJobs(url)]
    for _ in range(12):
        servers[0].queued()
    got: list[tuple[str, int]] = []

    def work(kept: KeptJobs, name: str) -> None:
        while True:
            try:
                job = kept.catalog.claim(name, tenant=WORKER)
            except GraftError:  # the other server's write took too long
                continue
            if job is None:
                return
            got.append((job.id, job.fence))

    threads = [threading.Thread(target=work, args=(servers[n % 2], f"w{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(got).most_common(1)[0][1] == 1 and len(got) == 12 and {fence for _, fence in got} == {1}
    for kept in servers:
        kept.database.close()


def test_a_server_that_ends_and_begins_again_loses_nothing(tmp_path: Path) -> None:
    """The worker goes on with its right, and a report whose answer was lost is not told twice."""
    url = f"sqlite:///{tmp_path}/c.db"
    kept = KeptJobs(url)
    kept.queued()
    job = kept.claimed()
    report = Report(number=1, news=[News(message="once")])
    kept.catalog.report(holder(job), report)
    kept.database.close()
    kept = KeptJobs(url)
    kept.catalog.report(holder(job), report)
    assert kept.messages(job)[-2:] == ["A worker began", "once"] and numbers(kept, job) == [1, 2, 3, 4, 5]
    assert kept.catalog.finish(holder(job), kept.result(job)).state is JobState.SUCCEEDED
    kept.database.close()


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


acts = st.tuples(
    st.sampled_from(["claim", "beat", "report", "release", "succeed", "fail", "lose", "pause", "resume", "cancel"]),
    st.integers(0, 2),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(acts, min_size=5, max_size=20))
def test_whatever_users_and_workers_do_in_whichever_order(script: list[tuple[str, int]]) -> None:
    """Workers go on with old fences; one at most is ever listened to, and every change is told."""
    kept = KeptJobs()
    job = kept.queued()
    result = kept.result(job)
    rights: dict[int, Holder] = {}
    for act, who in script:
        before = kept.catalog.get("default", job.id)
        right = rights.get(who, Holder(job=job.id, fence=0))
        try:
            match act:
                case "claim":
                    claimed = kept.catalog.claim(f"{who}", tenant=WORKER)
                    if claimed is not None:
                        rights[who] = holder(claimed)
                        assert before.state is JobState.QUEUED
                case "beat":
                    kept.catalog.heartbeat(right)
                case "report":
                    kept.catalog.report(right, Report(number=before.num_events, news=[News(message="x")]))
                case "release" | "succeed" | "fail":
                    outcome = {"succeed": result, "fail": JobError(code="c", message="m")}.get(act)
                    kept.catalog.finish(right, outcome)  # type: ignore[arg-type]
                case "lose":
                    for name, seen in kept.catalog.held().items():
                        assert kept.catalog.give_up(name, seen)
                case _:
                    kept.catalog.ask("default", job.id, Move(act))
        except LeaseLost:
            assert before.state not in HELD or right.fence != before.fence
        except Conflict:
            assert act in ("pause", "resume", "cancel")
        now = kept.catalog.get("default", job.id)
        assert (now.worker is not None) == (now.state in HELD) and now.fence >= before.fence
        assert (now.finish_time is not None) == (now.state in ENDED)
        told = kept.catalog.events_after("default", job.id, 0, limit=1_000)
        assert [one.number for one in told] == list(range(1, now.num_events + 1)) and told[-1].state is now.state
    kept.database.close()


def test_migrations_build_exactly_the_tables(tmp_path: Path) -> None:
    KeptJobs(f"sqlite:///{tmp_path}/c.db").database.close()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/c.db")
    with engine.connect() as connection:
        ours = set(metadata.tables)
        options = {
            "version_table": VERSION_TABLE,
            "include_name": lambda name, kind, _: kind != "table" or name in ours,
        }
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    engine.dispose()
