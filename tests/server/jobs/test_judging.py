"""One file that cannot be read holds up nobody else's job, and its own not for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import pytest

from graft.adapters.adapter import AdapterFile
from graft.adapters.errors import StoreUnavailable
from graft.server.jobs.judging import MAX_TRIES, NotYet
from graft.server.jobs.policy.states import JobState
from tests.server.jobs.tending import Tended, tended

ROW = b'{"prompt": "a", "completion": "b"}\n'


@asynccontextmanager
async def reading(one: Tended) -> AsyncGenerator[None, None]:
    task = asyncio.create_task(one.upkeep.read_files())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_file_that_is_lost_fails_its_job_and_the_next_is_read(tmp_path: Path) -> None:
    async with tended(tmp_path) as one:
        lost, sound = await one.uploaded(ROW), await one.uploaded(ROW * 2)
        first, second = one.kept.made(training_file=lost), one.kept.made(training_file=sound)
        one.lose(lost)
        async with reading(one):
            await one.reached(second, JobState.QUEUED)
            failed = await one.reached(first, JobState.FAILED)
        assert failed.error is not None and (failed.error.code, failed.error.param) == ("file_missing", "training_file")
        assert failed.error.message.startswith(f"training_file {lost} is lost")


async def test_a_store_that_is_away_fails_a_job_after_some_tries_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tended(tmp_path) as one:
        away, sound = await one.uploaded(ROW), await one.uploaded(ROW * 2)
        first, second = one.kept.made(training_file=away), one.kept.made(training_file=sound)
        real = one.store.open

        def open(file: AdapterFile, owner: str) -> IO[bytes]:
            if owner == away:
                raise StoreUnavailable("the store does not answer")
            return real(file, owner)

        monkeypatch.setattr(one.store, "open", open)
        async with reading(one):
            await one.reached(second, JobState.QUEUED)
        assert one.judging.due(one.kept.catalog.unread()) == [], "it was tried just now"
        for _ in range(MAX_TRIES - 2):
            one.clock += 1_000
            (job,) = one.judging.due(one.kept.catalog.unread())
            with pytest.raises(NotYet):
                await one.judging.judge(job)
        one.clock += 1_000
        async with reading(one):
            failed = await one.reached(first, JobState.FAILED)
        assert failed.error is not None and failed.error.code == "file_unreadable"
        assert f"in {MAX_TRIES} times" in failed.error.message


async def test_a_file_that_is_read_at_last_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tended(tmp_path) as one:
        job = one.kept.made(training_file=await one.uploaded(ROW))
        with monkeypatch.context() as patched:
            patched.setattr(one.store, "open", lambda file, owner: (_ for _ in ()).throw(OSError("away")))
            with pytest.raises(NotYet):
                await one.judging.judge(job)
        one.clock += 5
        (again,) = one.judging.due(one.kept.catalog.unread())
        assert await one.judging.judge(again) is None
