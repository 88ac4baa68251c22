"""The loop that counts, when something of it fails or somebody goes away: nothing is lost, and nobody else hears."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from graft.adapters.adapter import AdapterVersion
from graft.adapters.catalog.snapshot import Resolved
from graft.adapters.errors import CatalogUnavailable
from graft.server.api.faults import is_servers
from graft.server.engine.engine import EngineDied
from graft.server.management import Management
from graft.server.operations.metrics import Metrics
from graft.server.registry.thread import CatalogThread
from graft.server.releases import counting as module
from graft.server.releases import traffic
from graft.server.releases.policy.stages import Stage
from graft.server.releases.releases import Releases
from graft.server.releases.rollout import Answer, Rollout
from graft.server.releases.traffic import Traffic
from tests.adapters.making import register
from tests.server.releases.keeping import KeptRollouts, answers


class Loading:
    """Of management what promoting asks of it."""

    def __init__(self, kept: KeptRollouts) -> None:
        self.kept, self.error = kept, cast(Exception | None, None)

    async def find_version(self, *, tenant: str, adapter: str, version: str) -> AdapterVersion:
        return self.kept.adapters.get_version(tenant, adapter, version)

    async def load(self, version: AdapterVersion) -> None:
        if self.error is not None:
            raise self.error


class Counting:
    """Rollouts on their own thread, as the server has them."""

    def __init__(self) -> None:
        self.kept = KeptRollouts("sqlite://")
        self.loading = Loading(self.kept)
        metrics = Metrics(CollectorRegistry())
        self.traffic = Traffic(metrics, is_servers)
        self.thread = CatalogThread(self.kept.adapters, written=lambda catalog: None)
        self.releases = Releases(
            self.kept.catalog,
            self.thread,
            cast(Management, self.loading),
            self.traffic,
            metrics,
            receipt=lambda digest: None,
            parity_is_off=True,
        )

    def tell(self, rollout: Rollout, told: Sequence[Answer]) -> None:
        self.traffic.put_back(rollout, told)
        self.traffic.has_news.set()

    def another(self) -> Rollout:
        """A canary of another adapter."""
        one, two = (register(self.kept.adapters, content, adapter="saga").digest for content in "de")
        self.kept.adapters.set_alias(tenant="default", adapter="saga", alias="stable", version=one)
        return self.kept.begun(adapter="saga", version_digest=two, stable_digest=one)

    def num_answers(self, rollout: Rollout) -> int:
        now = self.kept.catalog.get("default", rollout.id)
        return now.canary_tally.num_answers + now.stable_tally.num_answers

    async def until(self, rollout: Rollout, stage: Stage) -> None:
        while await self.thread.run(lambda: self.kept.catalog.get("default", rollout.id).stage) is not stage:
            await asyncio.sleep(0)


@pytest.fixture
async def counting() -> AsyncIterator[Counting]:
    made = Counting()
    yield made
    await made.thread.close()


WELL = [*answers(20, by_canary=True), *answers(30, by_canary=False)]


async def test_a_canary_that_cannot_be_promoted_is_no_error_of_others_and_loses_no_answers(counting: Counting) -> None:
    one, other = counting.kept.begun(), counting.another()
    for rollout in (one, other):
        counting.tell(rollout, WELL)
    counting.loading.error = EngineDied("the engine died")
    assert await counting.releases.listed("acme", None, before=None, limit=9) == ()
    assert [counting.num_answers(rollout) for rollout in (one, other)] == [50, 50]


async def test_what_a_caller_who_goes_away_has_counted_counts_once(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout, began, may_end = counting.kept.begun(), threading.Event(), threading.Event()
    count = counting.kept.catalog.count

    def slow(*arguments: Any) -> Any:
        began.set()
        may_end.wait(60)
        return count(*arguments)

    monkeypatch.setattr(counting.kept.catalog, "count", slow)
    counting.tell(rollout, answers(5, by_canary=False))
    call = asyncio.ensure_future(counting.releases.get("default", rollout.id))
    await asyncio.to_thread(began.wait, 60)
    call.cancel()
    await asyncio.wait([call])
    may_end.set()
    await counting.releases.counting.close()
    assert counting.num_answers(rollout) == 5


async def test_one_rollout_that_cannot_be_counted_holds_up_no_other_and_is_told_again(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = counting.kept.begun(), counting.another()
    count = counting.kept.catalog.count

    def broken(rollout: Rollout, told: Sequence[Answer]) -> Any:
        if rollout.id == other.id:
            raise RuntimeError("a driver's error")
        return count(rollout, told)

    for rollout in (one, other):
        counting.tell(rollout, answers(5, by_canary=False))
    with monkeypatch.context() as patch:
        patch.setattr(counting.kept.catalog, "count", broken)
        await counting.releases.listed("acme", None, before=None, limit=9)
        assert [counting.num_answers(rollout) for rollout in (one, other)] == [5, 0]
    await counting.releases.counting.close()
    assert [counting.num_answers(rollout) for rollout in (one, other)] == [5, 5]


async def test_what_waits_for_a_database_that_is_away_is_bounded(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(traffic, "MOST_TOLD", 8)
    rollout = counting.kept.begun()
    counting.traffic.watch([rollout])
    (version,) = (one for one in counting.kept.adapters.snapshot().versions if one.digest == rollout.version_digest)
    resolved = Resolved(adapter="fable", version=version, alias="canary", was_drawn=True)

    def answer(number: int) -> None:
        with counting.traffic.watched(resolved, f"r-{number}", lambda: None):
            pass

    def away(rollout: Rollout, told: Sequence[Answer]) -> Any:
        raise CatalogUnavailable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(counting.kept.catalog, "count", away)
        for number in range(20):
            answer(number)
            if number % 5 == 0:
                await counting.releases.counting.count()
    await counting.releases.counting.close()
    assert counting.num_answers(rollout) == 8
    assert caplog.text.count("further ones are dropped") == 1


async def test_the_loop_survives_any_error_and_promotes_the_others(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    one, other = counting.kept.begun(), counting.another()
    find_version, failed = counting.loading.find_version, asyncio.Event()

    async def broken(*, adapter: str, **others: str) -> AdapterVersion:
        if adapter == one.adapter:
            failed.set()
            raise RuntimeError("nobody thought of this")
        return await find_version(adapter=adapter, **others)

    for rollout in (other, one):
        counting.tell(rollout, WELL)
    monkeypatch.setattr(counting.loading, "find_version", broken)
    loop = asyncio.ensure_future(counting.releases.counting.run())
    async with asyncio.timeout(60):
        await failed.wait()
        await counting.until(other, Stage.STABLE)
        monkeypatch.setattr(counting.loading, "find_version", find_version)
        await counting.until(one, Stage.STABLE)
    assert not loop.done()
    loop.cancel()


async def test_under_traffic_the_loop_pauses_between_its_turns(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 1_000.0)
    turns, under_way = 0, counting.kept.catalog.under_way

    def counted() -> Any:
        nonlocal turns
        turns += 1
        return under_way()

    monkeypatch.setattr(counting.kept.catalog, "under_way", counted)
    loop = asyncio.ensure_future(counting.releases.counting.run())
    for _ in range(200):
        counting.traffic.has_news.set()
        await counting.thread.run(lambda: None)
    assert turns == 1
    loop.cancel()
