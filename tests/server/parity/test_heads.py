"""Versions that bring a head: what it says is compared with peft's, whatever the LoRA alone would show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from graft.adapters.base.base import Base
from graft.adapters.folder.head import Head, Problem
from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.server.engine.engine import HeadOutputs
from graft.server.errors import ParityFailed
from graft.server.parity.headed import told
from graft.server.parity.layers import LayeredOracle
from graft.server.parity.oracle import _Oracle
from tests.server.engine.making import peft_logits, write_classifier
from tests.server.parity.bench import Bench

RIGHT = (1.5, -2.0)


@pytest.mark.parametrize("in_layers", [False, True])
def test_references_are_transformers_and_pefts(base: Base, tmp_path: Path, in_layers: bool) -> None:
    """Of beginnings that are longer and longer, and after an adapter without a head."""
    folder = write_classifier(tmp_path / "head", base, num_labels=3, seed=5)
    row = list(range(40, 52))
    if in_layers:
        said = LayeredOracle(str(base.path), "fp32").rows(folder=str(folder), rows=[row])
    else:
        oracle = _Oracle(str(base.path), "fp32")
        oracle.rows(folder=str(folder), num_rows=1, num_tokens=2)
        said = oracle.rows(folder=str(folder), num_rows=1, num_tokens=12)
    rows: list[Any] = [one["token_ids"] for one in said]
    assert [len(one) for one in rows] == [3, 6, 9, 12] == [one["num_prompt_tokens"] for one in said]
    for one, logits in zip(said, peft_logits(base, folder, rows, 3), strict=True):
        assert one["logprobs"] == pytest.approx([math.asinh(z) for z in logits], abs=1e-4)


def headed(bench: Bench, served: Sequence[float], right: Sequence[float] = RIGHT) -> None:
    """The bench's adapter brings a head that says `served`, and should say `right`."""

    async def classify(ids: Any, *, request_id: str, adapter: Any) -> HeadOutputs:
        return HeadOutputs(logits=tuple(served))

    async def reference(folder: Path, *, num_rows: int, num_tokens: int) -> Reference:
        rows = (ReferenceRow(token_ids=(1, 2, 3), num_prompt_tokens=3, logprobs=tuple(told(right))),)
        return Reference(form=ServingForm.NF4, rows=rows)

    vars(bench.engine)["classify"], vars(bench.oracle)["reference"] = classify, reference
    bench.adapter = replace(bench.adapter, head=Head(labels=("a", "b"), problem=Problem.ONE))


async def test_a_head_that_says_what_peft_says_is_served(bench: Bench) -> None:
    headed(bench, [1.51, -2.01])
    await bench.load(bench.parity())
    (body,) = bench.bodies
    assert (body["source"], body["num_tokens"], body["drifted"], body["noop"]) == ("peft", 2, False, False)
    assert bench.engine.scored == [], "no text is asked of it"


@pytest.mark.parametrize("served", [(-2.0, 1.5), (1.5, -1.7), (math.nan, 0.0)])
async def test_a_head_that_says_something_else_is_not(bench: Bench, served: tuple[float, float]) -> None:
    headed(bench, served)
    parity = bench.parity()
    with pytest.raises(ParityFailed, match=r"\(of a head: outputs\) differ from those of peft"):
        await bench.load(parity)
    await parity.settled()
    assert bench.bodies[0]["drifted"] is True


async def test_a_head_of_zeros_changes_nothing(bench: Bench) -> None:
    headed(bench, (0.0, 0.0), right=(0.0, 0.0))
    with pytest.raises(ParityFailed, match="changes nothing"):
        await bench.load(bench.parity())
