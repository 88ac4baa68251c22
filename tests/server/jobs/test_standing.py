"""How the queue stands, of all tenants."""

from __future__ import annotations

from graft.server.jobs.policy.states import JobState, Move
from graft.server.jobs.store.standing import Standing
from tests.server.jobs.keeping import KeptJobs, holder


def test_every_state_is_counted_and_a_job_waits_since_it_was_queued_last() -> None:
    kept = KeptJobs()
    kept.tenant("acme")
    assert kept.catalog.standing() == Standing(num_by_state=dict.fromkeys(JobState, 0), oldest_waiting_seconds=None)
    first, second = kept.queued(priority=1), kept.queued("acme")
    queued_at = kept.catalog.events_after(second.tenant, second.id, 0, limit=9)[-1].create_time
    held = kept.claimed()
    kept.made()
    now = kept.catalog.standing()
    states = {state: num for state, num in now.num_by_state.items() if num}
    assert states == {JobState.RUNNING: 1, JobState.QUEUED: 1, JobState.VALIDATING_FILES: 1}
    waiting = {first.id: second, second.id: first}[held.id]
    queued_at = kept.catalog.events_after(waiting.tenant, waiting.id, 0, limit=9)[-1].create_time
    assert now.oldest_waiting_seconds == (kept.time - queued_at).total_seconds() > 1
    kept.catalog.finish(holder(held), None)  # it waits from now on, however old it is
    kept.catalog.ask(waiting.tenant, waiting.id, Move.CANCEL)
    after = kept.catalog.standing()
    assert after.oldest_waiting_seconds is not None and after.oldest_waiting_seconds <= 2
    assert after.num_by_state[JobState.QUEUED] == after.num_by_state[JobState.CANCELLED] == 1
