"""The check of a version over an engine, records and an oracle that do as they are told."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from graft.adapters.catalog.rows import Record
from graft.adapters.errors import CatalogUnavailable
from graft.adapters.folder.reference import FILE_NAME, Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.server.engine.engine import ContinuationScore, EngineAdapter, EngineDied, EngineInfo, TokenLogprob
from graft.server.errors import ParityFailed, ParityUnavailable
from graft.server.parity import parity as parity_module
from graft.server.parity.expectations import Expectations
from graft.server.parity.parity import Parity
from graft.server.parity.receipt import KIND, Source

DIGEST = "sha256:" + "a" * 64


class FakeEngine:
    """The base says every token with `base`, the adapter with `adapted`."""

    def __init__(self) -> None:
        self.base, self.adapted = -1.0, -2.0
        self.kernel = "grouped"
        self.scored: list[tuple[bool, int]] = []
        self.error: Exception | None = None

    async def info(self) -> EngineInfo:
        return EngineInfo(
            pid=1, engine_version="vllm 1", lora_kernel=self.kernel, max_model_tokens=64, num_slots=2, max_rank=8
        )

    async def score(
        self, prompt: Any, continuation: Any, *, request_id: str, adapter: EngineAdapter | None
    ) -> ContinuationScore:
        self.scored.append((adapter is not None, len(prompt) + len(continuation)))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        value = self.base if adapter is None else self.adapted
        return ContinuationScore(
            tokens=tuple(TokenLogprob(token_id=one, token="", logprob=value) for one in continuation), is_greedy=False
        )


class FakeRecords:
    def __init__(self) -> None:
        self.kept: list[Record] = []
        self.error: Exception | None = None
        self.reading = asyncio.Event()
        self.reading.set()

    async def of(self, digest: str) -> tuple[Record, ...]:
        await self.reading.wait()
        if self.error:
            raise self.error
        return tuple(record for record in self.kept if record.version_digest == digest)

    async def add(self, digest: str, kind: str, body: Mapping[str, object]) -> None:
        if self.error:
            raise self.error
        self.kept.append(Record(version_digest=digest, kind=kind, body=body, create_time=datetime.now(UTC)))


class FakeOracle:
    def __init__(self) -> None:
        self.says = -2.0
        self.form = ServingForm.NF4
        self.error: Exception | None = None
        self.num_asked = 0
        self.in_layers, self.expected_seconds = False, 1.0

    async def reference(self, folder: Path, *, num_rows: int, num_tokens: int) -> Reference:
        self.num_asked += 1
        if self.error:
            raise self.error
        return reference(self.says, form=self.form)

    async def scored(self, folder: Path, rows: Sequence[Sequence[int]]) -> Reference:
        self.num_asked += 1
        if self.error:
            raise self.error
        return Reference(
            form=self.form,
            rows=tuple(
                ReferenceRow(token_ids=tuple(row), num_prompt_tokens=1, logprobs=(self.says,) * (len(row) - 1))
                for row in rows
            ),
        )

    def warm(self) -> None:
        pass

    async def close(self) -> None:
        pass


def reference(logprob: float, *, form: ServingForm = ServingForm.NF4) -> Reference:
    row = ReferenceRow(token_ids=tuple(range(16)), num_prompt_tokens=1, logprobs=(logprob,) * 15)
    return Reference(form=form, rows=(row, row))


class Bench:
    """A parity check and everything around it; `parity()` is what a restarted server has."""

    def __init__(self, folder: Path) -> None:
        self.engine, self.records, self.oracle = FakeEngine(), FakeRecords(), FakeOracle()
        self.adapter = EngineAdapter(digest=DIGEST, engine_id=1, path=folder)

    def parity(self, *, form: ServingForm = ServingForm.NF4, mode: Any = "full") -> Parity:
        return Parity(
            self.engine,  # type: ignore[arg-type]
            self.records,  # type: ignore[arg-type]
            name_of=lambda digest: "joe@1",
            form=form,
            mode=mode,
            expectations=Expectations(
                self.engine,  # type: ignore[arg-type]
                self.oracle,
                form=form,
                mode=mode,
                num_tokens=32,
                limit_seconds=90.0,
            ),
        )

    async def load(self, parity: Parity) -> None:
        """What `Slots` does around a load."""
        await parity.recall(DIGEST)
        parity.expect(self.adapter)
        await parity.verify(self.adapter)
        await parity.settled()

    @property
    def bodies(self) -> list[Mapping[str, object]]:
        return [record.body for record in self.records.kept if record.kind == KIND]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(parity_module, "_WRITE_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(parity_module, "_RETRY_SECONDS", 0.0)
    return Bench(tmp_path)


async def test_a_faithful_version_gets_a_receipt_once(bench: Bench) -> None:
    reference(-2.01).write(bench.adapter.path)
    parity = bench.parity()
    await bench.load(parity)
    assert bench.engine.scored == [(False, 16), (True, 16), (True, 16)]
    (body,) = bench.bodies
    assert (body["source"], body["form"], body["reference_form"]) == ("trainer", "nf4", "nf4")
    assert (body["engine"], body["kernel"], body["num_tokens"]) == ("vllm 1", "grouped", 30)
    assert body["mean_abs_delta"] == pytest.approx(0.01) and body["base_mean_abs_delta"] == pytest.approx(1.0)
    receipt = parity.receipt(DIGEST)
    assert receipt is not None and receipt.body() == body
    bench.engine.error = AssertionError("asked again")
    await bench.load(parity)
    restarted = bench.parity()
    await bench.load(restarted)
    assert restarted.receipt(DIGEST) == receipt
    assert len(bench.bodies) == 1 and bench.oracle.num_asked == 0


async def test_another_kernel_or_form_needs_another_receipt(bench: Bench) -> None:
    reference(-2.0).write(bench.adapter.path)
    await bench.load(bench.parity())
    bench.engine.kernel = "compiled"
    await bench.load(bench.parity())
    await bench.load(bench.parity(form=ServingForm.BF16))
    assert [(body["kernel"], body["form"]) for body in bench.bodies] == [
        ("grouped", "nf4"),
        ("compiled", "nf4"),
        ("compiled", "bf16"),
    ]


async def test_drift_is_refused_with_value_limit_and_remedy_and_stays_refused(bench: Bench) -> None:
    reference(-2.3).write(bench.adapter.path)
    parity = bench.parity()
    with pytest.raises(ParityFailed, match=r"by 0\.3000 on average.*0\.05 is the limit.*train or export it again"):
        await bench.load(parity)
    await parity.settled()
    assert bench.bodies[0]["drifted"] is True
    bench.engine.error = AssertionError("asked again")
    for refusing in (parity, bench.parity()):
        with pytest.raises(ParityFailed, match=r"0\.3000"):
            await refusing.recall(DIGEST)
    bench.engine.error, bench.engine.kernel, bench.engine.adapted = None, "repaired", -2.3
    await bench.load(bench.parity())


async def test_another_forms_drift_is_measured_and_not_refused(bench: Bench) -> None:
    reference(-2.3).write(bench.adapter.path)
    await bench.load(bench.parity(form=ServingForm.INT8))
    assert bench.bodies[0]["mean_abs_delta"] == pytest.approx(0.3)
    assert (bench.bodies[0]["drifted"], bench.bodies[0]["reference_form"]) == (False, "nf4")


async def test_a_no_op_is_refused_until_it_is_allowed(bench: Bench) -> None:
    reference(-1.0).write(bench.adapter.path)
    bench.engine.adapted = -1.0
    parity = bench.parity()
    with pytest.raises(ParityFailed, match=r"changes nothing.*allow_noop"):
        await bench.load(parity)
    await bench.records.add(DIGEST, "allow_noop", {})
    await bench.load(parity)
    assert len([body for body in bench.bodies if body["noop"]]) == 1


async def test_a_foreign_adapter_is_compared_with_peft(bench: Bench) -> None:
    await bench.load(bench.parity())
    assert bench.bodies[0]["source"] == "peft" and bench.oracle.num_asked == 1
    bench.oracle.says, bench.engine.kernel = -3.0, "other"
    with pytest.raises(ParityFailed, match=r"those of peft by 1\.0000"):
        await bench.load(bench.parity())


async def test_where_only_records_are_compared_a_foreign_adapter_gets_an_empty_receipt(bench: Bench) -> None:
    parity = bench.parity(mode="recorded")
    await bench.load(parity)
    receipt = parity.receipt(DIGEST)
    assert receipt is not None and receipt.source is Source.NONE and bench.bodies[0]["source"] == "none"
    assert bench.engine.scored == [] and bench.oracle.num_asked == 0
    await bench.load(bench.parity(mode="recorded"))
    assert len(bench.bodies) == 1
    await bench.load(bench.parity())
    assert [body["source"] for body in bench.bodies] == ["none", "peft"], "a full check is not spared by an empty one"


async def test_nothing_is_checked_where_it_is_off(bench: Bench) -> None:
    parity = bench.parity(mode="off")
    await bench.load(parity)
    assert bench.engine.scored == [] and bench.bodies == [] and parity.receipt(DIGEST) is None


@pytest.mark.parametrize("error", [EngineDied("gone"), ParityUnavailable("slow")])
async def test_a_check_that_could_not_be_made_is_made_again(bench: Bench, error: Exception) -> None:
    parity = bench.parity()
    holder: Any = bench.oracle if isinstance(error, ParityUnavailable) else bench.engine
    holder.error = error
    for _ in range(2):
        with pytest.raises(type(error)):
            await bench.load(parity)
    assert bench.bodies == [] and parity.receipt(DIGEST) is None
    holder.error = None
    await bench.load(parity)
    assert bench.bodies[0]["source"] == "peft"


async def test_receipts_of_deleted_versions_are_forgotten(bench: Bench) -> None:
    reference(-2.0).write(bench.adapter.path)
    parity = bench.parity()
    await bench.load(parity)
    parity.keep_only({DIGEST, "sha256:other"})
    assert parity.receipt(DIGEST) is not None
    parity.keep_only({"sha256:other"})
    assert parity.receipt(DIGEST) is None


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


@pytest.mark.parametrize("mode", ["full", "recorded"])
async def test_a_record_that_does_not_fit_the_context_is_no_record(bench: Bench, mode: str) -> None:
    """It must not take the place of asking peft."""
    row = ReferenceRow(token_ids=(5,) * 200, num_prompt_tokens=199, logprobs=(-1.0,))
    Reference(form=ServingForm.NF4, rows=(row,)).write(bench.adapter.path)
    parity = bench.parity(mode=mode)
    await bench.load(parity)
    receipt = parity.receipt(DIGEST)
    assert receipt is not None
    assert receipt.source is (Source.PEFT if mode == "full" else Source.NONE)


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


async def test_a_form_that_peft_does_not_know_is_served_without_a_reference(bench: Bench) -> None:
    bench.oracle.error = ParityFailed("cannot load a packed folder")
    await bench.load(bench.parity(form=ServingForm.INT4))
    assert bench.bodies[0]["source"] == "none"
    with pytest.raises(ParityFailed):
        await bench.load(bench.parity(form=ServingForm.BF16))


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
