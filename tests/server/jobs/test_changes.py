"""Who waits is woken by what concerns it, and does not write meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import event

from graft.server.jobs.jobs import Changes
from graft.server.jobs.policy.states import JobState
from tests.server.jobs.keeping import WORKER
from tests.server.jobs.tending import tended


def test_each_hears_of_its_own_job_and_of_the_state_it_waits_for() -> None:
    changes = Changes()
    first, second = changes.next("ftjob-1"), changes.next("ftjob-2")
    queue, again = changes.next(JobState.QUEUED), changes.next(JobState.QUEUED)
    assert queue is again
    changes.happened("ftjob-1", JobState.RUNNING)
    assert [one.is_set() for one in (first, second, queue)] == [True, False, False]
    assert not changes.next("ftjob-1").is_set()
    changes.happened("ftjob-3", JobState.QUEUED)
    assert [one.is_set() for one in (second, queue)] == [False, True]
    del first, second, queue, again
    assert not changes._events, "nobody waits, and nothing is kept"


async def test_a_worker_that_waits_writes_nothing_and_is_woken_by_a_job(tmp_path: Path) -> None:
    async with tended(tmp_path) as one:
        file = one.kept.file()
        sent: list[str] = []
        event.listen(one.kept.database._engine, "before_cursor_execute", lambda *call: sent.append(call[2]))
        assert await one.jobs.claim("w", tenant=WORKER, request_id="r", wait_seconds=0) is None
        assert sent and not any("UPDATE" in text or "INSERT" in text for text in sent)
        waiting = asyncio.create_task(one.jobs.claim("w", tenant=WORKER, request_id="r", wait_seconds=20))
        job = one.kept.made(training_file=file)
        assert one.kept.catalog.judged(job, None)
        one.jobs.changes.happened(job.id, JobState.QUEUED)
        claimed = await waiting
        assert claimed is not None and claimed.id == job.id
        repeated = await one.jobs.claim("w", tenant=WORKER, request_id="r", wait_seconds=0)
        assert repeated == claimed, "the queue is empty, and the answer is the first one"
