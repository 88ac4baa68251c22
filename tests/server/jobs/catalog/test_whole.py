"""Jobs in the database: whatever is asked in whichever order, over a restart, and the tables."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.adapters.catalog.database import VERSION_TABLE
from graft.adapters.errors import Conflict
from graft.server.errors import LeaseLost
from graft.server.jobs.job import JobError, News
from graft.server.jobs.policy.states import ENDED, HELD, JobState, Move
from graft.server.jobs.store.working import Holder, Report
from graft.server.jobs.tables import metadata
from tests.server.jobs.keeping import WORKER, KeptJobs, holder, numbers


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
