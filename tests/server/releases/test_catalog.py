"""Rollouts in the database: aliases move with them, several servers add up, and a restart loses nothing."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations

from graft.adapters.catalog.database import VERSION_TABLE
from graft.adapters.errors import Conflict, GraftError, NotFound
from graft.server.errors import NoSuchResource
from graft.server.releases.policy.canary import CanarySpec
from graft.server.releases.policy.stages import Stage
from graft.server.releases.rollout import Answer
from graft.server.releases.store import counting
from graft.server.releases.tables import metadata
from tests.server.releases.keeping import KeptRollouts, answers


@pytest.fixture
def kept() -> Iterator[KeptRollouts]:
    kept = KeptRollouts("sqlite://")
    yield kept
    kept.database.close()


def test_a_canary_gets_its_share_and_becomes_stable(kept: KeptRollouts) -> None:
    rollout = kept.begun()
    assert kept.aliases() == {"canary": (2, 10), "stable": (1, 0)}
    kept.catalog.count(rollout, answers(30, by_canary=False))
    counted = kept.catalog.count(rollout, answers(20, by_canary=True))
    assert not counted.has_ended and kept.aliases()["stable"] == (1, 0), "who promotes has it loaded first"
    done = kept.catalog.promote(rollout, ["no worse"])
    assert (done.stage, done.canary_tally.num_answers, done.stable_tally.num_answers) == (Stage.STABLE, 20, 30)
    assert kept.aliases() == {"stable": (2, 0)} and done.reasons == ("no worse",)
    assert kept.catalog.promote(rollout, ()) == done, "another server has done so already"


def test_a_canary_that_fails_is_taken_back_in_the_transaction_that_counts_it(kept: KeptRollouts) -> None:
    rollout = kept.begun()
    kept.catalog.count(rollout, answers(30, by_canary=False))
    counted = kept.catalog.count(rollout, answers(3, by_canary=True, failed=True))
    assert counted.rollout.stage is Stage.ROLLED_BACK and "errors 3 of 3" in counted.rollout.reasons[0]
    assert kept.aliases() == {"stable": (1, 0)}
    late = kept.catalog.count(rollout, answers(5, by_canary=True))
    assert late.rollout == counted.rollout, "what is told after the end counts no more"


def test_outcomes_find_their_side_and_count_once(kept: KeptRollouts) -> None:
    rollout = kept.begun()
    kept.catalog.count(rollout, [*answers(30, by_canary=False), *answers(8, by_canary=True)])
    for at in range(30):
        kept.catalog.outcome("default", f"stable-{at}", 1.0)
    counted = kept.catalog.outcome("default", "canary-0", 0.5)
    assert counted is not None and kept.catalog.outcome("default", "canary-0", 0.5) == counted
    with pytest.raises(Conflict, match="does not change"):
        kept.catalog.outcome("default", "canary-0", 0.25)
    now = kept.catalog.get("default", rollout.id)
    assert (now.canary_tally.num_outcomes, now.canary_tally.sum_outcomes) == (1, 0.5)
    assert kept.catalog.outcome("default", "nobody's", 0.0) is None
    assert kept.catalog.outcome("acme", "canary-1", 0.0) is None, "another tenant's answer"
    worst = [kept.catalog.outcome("default", f"canary-{at}", 0.0) for at in range(1, 8)]
    assert kept.catalog.get("default", rollout.id).stage is Stage.ROLLED_BACK
    assert worst[-1] is None, "it was taken back before, and its answers count no more"


def test_names_are_kept_of_so_many_answers_of_stable_and_the_others_added_up(
    kept: KeptRollouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "MOST_NAMED", 30)
    rollout = kept.begun(spec=CanarySpec(num_answers=2, needs_outcomes=True))
    kept.catalog.count(rollout, [*answers(30, by_canary=False), *answers(2, by_canary=True)])
    kept.catalog.count(rollout, [*answers(9, by_canary=False, first=30), *answers(2, by_canary=True, first=2)])
    assert kept.catalog.get("default", rollout.id).stable_tally.num_answers == 39
    assert kept.catalog.outcome("default", "stable-30", 1.0) is None
    for name in ("stable-29", "canary-3"):
        assert kept.catalog.outcome("default", name, 1.0) is not None


def test_one_name_for_two_requests_has_one_outcome(kept: KeptRollouts) -> None:
    rollout = kept.begun()
    twice = [Answer(request="r", by_canary=by_canary, failed=False) for by_canary in (True, False)]
    kept.catalog.count(rollout, twice)
    kept.catalog.count(rollout, twice)
    counted = kept.catalog.outcome("default", "r", 1.0)
    assert counted is not None and counted.rollout.canary_tally.num_outcomes == 1
    assert counted.rollout.canary_tally.num_answers == counted.rollout.stable_tally.num_answers == 2


def test_one_adapter_has_one_canary(kept: KeptRollouts) -> None:
    first = kept.begun(2)
    with pytest.raises(Conflict, match=first.id):
        kept.begun(3)
    kept.catalog.roll_back("default", "fable", ["asked for"])
    kept.begun(3)
    assert [one.stage for one in kept.catalog.listed("default", "fable", before=None, limit=9)] == [
        Stage.CANARY,
        Stage.ROLLED_BACK,
    ]


def test_what_is_refused_moves_nothing_and_is_kept(kept: KeptRollouts) -> None:
    refused = kept.begun(stage=Stage.REFUSED, reasons=("no gain",))
    assert kept.aliases() == {"stable": (1, 0)}
    assert kept.catalog.get("default", refused.id).reasons == ("no gain",)
    assert kept.catalog.under_way() == ()


def test_stable_is_compared_when_a_rollout_begins(kept: KeptRollouts) -> None:
    draft = kept.draft(2)
    kept.point("stable", 3)
    with pytest.raises(Conflict, match="has moved"):
        kept.catalog.begin(draft)


def test_whoever_moves_the_aliases_by_hand_ends_the_rollout(kept: KeptRollouts) -> None:
    rollout = kept.begun(2)
    kept.point("stable", 3)
    counted = kept.catalog.count(rollout, answers(30, by_canary=True))
    assert counted.rollout.stage is Stage.SUPERSEDED and counted.has_ended
    assert kept.aliases() == {"stable": (3, 0)}, "its share ends with it; nothing of theirs is touched"


def test_a_canary_that_was_moved_by_hand_stays_where_it_was_moved(kept: KeptRollouts) -> None:
    rollout = kept.begun(2)
    kept.point("canary", 3)
    assert kept.catalog.count(rollout, answers(1, by_canary=False)).rollout.stage is Stage.SUPERSEDED
    assert kept.aliases()["canary"][0] == 3 and kept.aliases()["stable"] == (1, 0)


def test_one_call_takes_back_a_canary_or_what_became_stable(kept: KeptRollouts) -> None:
    kept.begun(2)
    back = kept.catalog.roll_back("default", "fable", ["asked for"], request_id="r")
    assert (back.stage, kept.aliases()) == (Stage.ROLLED_BACK, {"stable": (1, 0)})
    with pytest.raises(NotFound, match="no canary"):
        kept.catalog.roll_back("default", "fable", ["asked for"])
    kept.begun(3, stage=Stage.STABLE)
    assert kept.aliases() == {"stable": (3, 0)}
    assert kept.catalog.roll_back("default", "fable", ["asked for"], request_id="r") == back, "repeated, answered again"
    kept.catalog.roll_back("default", "fable", ["asked for"])
    assert kept.aliases() == {"stable": (1, 0)}
    kept.begun(3, stage=Stage.STABLE)
    kept.point("stable", 2)
    with pytest.raises(Conflict, match="was moved since"):
        kept.catalog.roll_back("default", "fable", ["asked for"])


def test_a_request_that_is_repeated_begins_nothing_anew(kept: KeptRollouts) -> None:
    first = kept.catalog.begin(kept.draft(), request_id="b", call=["begin", 2])
    assert kept.catalog.begin(kept.draft(), request_id="b", call=["begin", 2]) == first
    with pytest.raises(Conflict, match="another call"):
        kept.catalog.begin(kept.draft(3), request_id="b", call=["begin", 3])


@pytest.mark.parametrize("stage", [Stage.REFUSED, Stage.CANARY])
def test_of_a_jobs_version_it_is_decided_once(kept: KeptRollouts, stage: Stage) -> None:
    """Two workers of one job have found that nothing was decided yet."""
    first = kept.begun(2, job="ftjob-1", stage=stage)
    assert kept.begun(2, job="ftjob-1", stage=stage) == first
    assert kept.begun(3, job="ftjob-1", stage=Stage.REFUSED).id != first.id
    assert len(kept.catalog.listed("default", "fable", before=None, limit=9)) == 2


def test_the_second_of_two_rollouts_of_a_jobs_version_loses_its_job_when_the_tables_are_upgraded(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/c.db"
    kept = KeptRollouts(url)
    one, two = (kept.begun(2, job=job, stage=Stage.REFUSED) for job in ("ftjob-1", "ftjob-2"))
    by_hand = kept.begun(2, stage=Stage.REFUSED)
    kept.database.close()
    engine = sa.create_engine(url)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        released = importlib.import_module("graft.server.releases.migrations.versions.0002_one_of_job")
        released.downgrade()
        connection.execute(sa.text("UPDATE rollouts SET job = 'ftjob-1' WHERE id = :id"), {"id": two.id})
        released.upgrade()
        jobs = {row.id: row.job for row in connection.execute(sa.text("SELECT id, job FROM rollouts"))}
    engine.dispose()
    assert jobs == {one.id: "ftjob-1", two.id: None, by_hand.id: None}


def test_tenants_see_their_own_only(kept: KeptRollouts) -> None:
    rollout = kept.begun()
    assert kept.catalog.listed("acme", None, before=None, limit=9) == ()
    with pytest.raises(NoSuchResource):
        kept.catalog.get("acme", rollout.id)


def test_two_servers_add_up_and_a_third_goes_on_after_them(tmp_path: Path) -> None:
    """Four threads on each of two servers: every answer counts once, whoever told it, and a third server goes on."""
    url = f"sqlite:///{tmp_path}/c.db"
    servers = [KeptRollouts(url), KeptRollouts(url, contents="")]
    rollout = servers[0].begun(spec=CanarySpec(num_answers=48))

    def work(number: int) -> None:
        for at in range(6):
            told = [*answers(1, by_canary=True, first=number * 10 + at), *answers(2, by_canary=False, first=at)]
            while True:
                try:
                    servers[number % 2].catalog.count(rollout, told)
                    break
                except GraftError:  # the other server's write took too long
                    continue

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for kept in servers:
        kept.database.close()
    third = KeptRollouts(url, contents="")
    (found,) = third.catalog.under_way()
    assert (found.canary_tally.num_answers, found.stable_tally.num_answers) == (48, 96)
    assert third.catalog.promote(found, ()).stage is Stage.STABLE and third.aliases() == {"stable": (2, 0)}
    third.database.close()


def test_migrations_build_exactly_the_tables(tmp_path: Path) -> None:
    KeptRollouts(f"sqlite:///{tmp_path}/c.db").database.close()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/c.db")
    with engine.connect() as connection:
        ours = set(metadata.tables)
        options = {
            "version_table": VERSION_TABLE,
            "include_name": lambda name, kind, _: kind != "table" or name in ours,
        }
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    engine.dispose()
