"""Versions that bring no reference: peft says what they should say."""

from __future__ import annotations

from typing import Any

import pytest

from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineDied
from graft.server.errors import ParityFailed, ParityUnavailable
from tests.server.parity.bench import DIGEST, Bench


async def test_a_foreign_adapter_is_compared_with_peft(bench: Bench) -> None:
    await bench.load(bench.parity())
    assert bench.bodies[0]["source"] == "peft" and bench.oracle.num_asked == 1
    bench.oracle.says, bench.engine.kernel = -3.0, "other"
    with pytest.raises(ParityFailed, match=r"those of peft by 1\.0000"):
        await bench.load(bench.parity())


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


async def test_a_form_that_peft_does_not_know_is_served_without_a_reference(bench: Bench) -> None:
    bench.oracle.error = ParityFailed("cannot load a packed folder")
    await bench.load(bench.parity(form=ServingForm.INT4))
    assert bench.bodies[0]["source"] == "none"
    with pytest.raises(ParityFailed):
        await bench.load(bench.parity(form=ServingForm.BF16))
