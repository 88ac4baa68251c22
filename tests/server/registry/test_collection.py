"""The background collection: it enrols, goes on after a failure, and spares what the engine holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Set
from typing import Any

import pytest

from graft.adapters.errors import StoreUnavailable
from graft.adapters.store.store import Collected
from graft.server.registry import collection as collection_module
from graft.server.registry.collection import Collection


class FakeCatalog:
    def identity(self) -> str:
        return "c1"

    def live_digests(self) -> frozenset[str]:
        return frozenset({"live"})


class FakeThread:
    async def read(self, call: Callable[[Any], Any]) -> Any:
        return call(FakeCatalog())


class FakeStore:
    """Fails as often as it is told to, then notes what it was to keep."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.owners: set[str] = set()
        self.kept: list[Set[str]] = []
        self.collected = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def enrol(self, owner: str) -> None:
        self.owners.add(owner)

    def collect(self, live: Set[str]) -> Collected:
        if self.errors:
            raise self.errors.pop(0)
        self.kept.append(live)
        self.loop.call_soon_threadsafe(self.collected.set)
        return Collected(num_deleted=1, freed_bytes=5)


def made(store: FakeStore) -> Collection:
    return Collection(FakeThread(), store, in_use=lambda: {"leased"})  # type: ignore[arg-type]


async def test_what_lives_and_what_the_engine_holds_is_kept() -> None:
    store = FakeStore()
    assert await made(store).collect() == Collected(num_deleted=1, freed_bytes=5)
    assert store.owners == {"c1"} and store.kept == [{"live", "leased"}]


async def test_the_background_task_outlives_every_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(collection_module, "_FIRST_SECONDS", 0)
    monkeypatch.setattr(collection_module, "_INTERVAL_SECONDS", 0)
    store = FakeStore(StoreUnavailable("away"), OSError("gone"), RuntimeError("a bug"))
    task = asyncio.create_task(made(store).run())
    await asyncio.wait_for(store.collected.wait(), 20)
    assert not task.done() and store.errors == [] and "away" in caplog.text and "a bug" in caplog.text
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
