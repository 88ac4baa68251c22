"""Receipts and verdicts, wherever the reference comes from."""

from __future__ import annotations

import asyncio

import pytest

from graft.adapters.errors import CatalogUnavailable
from graft.server.errors import ParityFailed
from graft.server.parity import parity as parity_module
from tests.server.parity.bench import DIGEST, Bench, reference


async def test_a_no_op_is_refused_until_it_is_allowed(bench: Bench) -> None:
    reference(-1.0).write(bench.adapter.path)
    bench.engine.adapted = -1.0
    parity = bench.parity()
    with pytest.raises(ParityFailed, match=r"changes nothing.*allow_noop"):
        await bench.load(parity)
    await bench.records.add(DIGEST, "allow_noop", {})
    await bench.load(parity)
    assert len([body for body in bench.bodies if body["noop"]]) == 1


async def test_nothing_is_checked_where_it_is_off(bench: Bench) -> None:
    parity = bench.parity(mode="off")
    await bench.load(parity)
    assert bench.engine.scored == [] and bench.bodies == [] and parity.receipt(DIGEST) is None


async def test_receipts_of_deleted_versions_are_forgotten(bench: Bench) -> None:
    reference(-2.0).write(bench.adapter.path)
    parity = bench.parity()
    await bench.load(parity)
    parity.keep_only({DIGEST, "sha256:other"})
    assert parity.receipt(DIGEST) is not None
    parity.keep_only({"sha256:other"})
    assert parity.receipt(DIGEST) is None


async def test_a_receipt_is_written_once_the_catalog_is_back(bench: Bench) -> None:
    reference(-2.0).write(bench.adapter.path)
    bench.records.error = CatalogUnavailable("locked")
    parity = bench.parity()
    await parity.recall(DIGEST)
    await parity.verify(bench.adapter)
    assert bench.bodies == [], "serving does not wait for the catalog"
    bench.records.error = None
    await parity.close()
    assert len(bench.bodies) == 1


async def test_a_catalog_that_hangs_does_not_hold_a_load_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity_module, "_CATALOG_SECONDS", 0.01)
    reference(-2.0).write(bench.adapter.path)
    bench.records.reading.clear()
    await asyncio.wait_for(bench.parity().recall(DIGEST), 1)
