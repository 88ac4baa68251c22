"""Versions that bring a reference, recorded by their trainer."""

from __future__ import annotations

import pytest

from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.server.errors import ParityFailed
from graft.server.parity.receipt import Source
from tests.server.parity.bench import DIGEST, Bench, reference


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
