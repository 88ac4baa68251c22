"""Checks that begin before anybody waits for them: beside a load, or when a version is announced."""

from __future__ import annotations

import asyncio
import gc

import pytest

from graft.adapters.folder.reference import FILE_NAME
from graft.server.engine.engine import EngineDied
from graft.server.errors import ParityFailed
from graft.server.parity import parity as parity_module
from tests.server.parity.bench import DIGEST, Bench, reference


async def test_the_base_is_scored_beside_the_load_and_afresh_for_each(bench: Bench) -> None:
    reference(-2.0).write(bench.adapter.path)
    parity = bench.parity()
    for _ in range(2):  # the first load fails, so nobody verifies
        withdraw = parity.expect(bench.adapter)
        async with asyncio.timeout(5):
            while not bench.engine.scored:
                await asyncio.sleep(0)
        assert bench.engine.scored == [(False, 16)]
        bench.engine.scored.clear()
        withdraw()
    parity.expect(bench.adapter)
    await parity.verify(bench.adapter)
    assert bench.engine.scored == [(False, 16), (True, 16), (True, 16)]
    before = asyncio.all_tasks()
    parity.expect(bench.adapter)
    assert asyncio.all_tasks() == before, "a version with a receipt is not looked at again"
    await parity.close()


async def test_an_announced_version_is_begun_at_once_and_only_once(bench: Bench) -> None:
    """An upload's folder is taken away when it is registered: it is read before `prepare` returns."""
    reference(-2.0).write(bench.adapter.path)
    parity = bench.parity()
    await asyncio.to_thread(parity.prepare, DIGEST, bench.adapter.path)
    (bench.adapter.path / FILE_NAME).unlink()
    async with asyncio.timeout(5):
        while not bench.engine.scored:
            await asyncio.sleep(0)
    assert bench.engine.scored == [(False, 16)]
    await bench.load(parity)
    assert bench.engine.scored == [(False, 16), (True, 16), (True, 16)]
    assert bench.bodies[0]["source"] == "trainer" and bench.oracle.num_asked == 0


async def test_what_was_begun_and_failed_is_asked_again(bench: Bench) -> None:
    reference(-2.0).write(bench.adapter.path)
    parity = bench.parity()
    others = asyncio.all_tasks()
    bench.engine.error = EngineDied("gone")
    parity.prepare(DIGEST, bench.adapter.path)
    await asyncio.sleep(0)
    await asyncio.wait(asyncio.all_tasks() - others)
    bench.engine.error = None
    await bench.load(parity)
    assert parity.receipt(DIGEST) is not None


async def test_announcing_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand versions may be registered that nobody ever asks for."""
    monkeypatch.setattr(parity_module, "_MAX_BESIDE", 2)
    reference(-2.0).write(bench.adapter.path)
    parity = bench.parity()
    others = asyncio.all_tasks()
    for digest in (DIGEST, "sha256:b", "sha256:c"):
        parity.prepare(digest, bench.adapter.path)
    await asyncio.sleep(0)
    await asyncio.wait(asyncio.all_tasks() - others)
    assert len(bench.engine.scored) == 2
    await bench.load(parity)
    assert len(bench.engine.scored) == 2 + 3, "the first one was let go, and begun again"
    bench.parity(mode="off").prepare(DIGEST, bench.adapter.path)


async def test_a_check_that_nobody_waits_for_ends_without_a_word(bench: Bench) -> None:
    """A load failed meanwhile, or the server ends: what the check ran into is nobody's business any more."""
    complaints: list[object] = []
    loop, others = asyncio.get_running_loop(), asyncio.all_tasks()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    reference(-2.0).write(bench.adapter.path)
    bench.engine.error = EngineDied("gone")
    parity = bench.parity()
    withdraw = parity.expect(bench.adapter)
    await asyncio.wait(asyncio.all_tasks() - others)
    withdraw()
    parity.expect(bench.adapter)
    await parity.close()
    await asyncio.wait(asyncio.all_tasks() - others)
    gc.collect()
    loop.set_exception_handler(None)
    assert complaints == [] and asyncio.all_tasks() <= others


async def test_an_effect_within_rounding_is_measured_again_in_one_batch(bench: Bench) -> None:
    """In another batch the base rounds otherwise: what looks like a small effect may be none."""
    bench.engine.adapted = bench.engine.base = -1.0
    reference(-1.0).write(bench.adapter.path)
    parity = bench.parity()
    others = asyncio.all_tasks()
    parity.expect(bench.adapter)
    await asyncio.wait(asyncio.all_tasks() - others)
    bench.engine.adapted = bench.engine.base = -1.01
    with pytest.raises(ParityFailed, match="changes nothing"):
        await parity.verify(bench.adapter)
    assert bench.engine.scored[-2:] == [(True, 16), (False, 16)]
