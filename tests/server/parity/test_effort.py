"""How a foreign adapter is measured is settled by the base's size and the operator's word before anybody waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.form import ServingForm
from graft.server.engine.engine import Delta, EngineDied
from graft.server.errors import ParityFailed, ParityUnavailable
from graft.server.parity.effort import Effort, effort_of
from graft.server.parity.oracle_process import Unmeasurable
from tests.server.parity.bench import DIGEST, Bench, reference

SHIPPED = Base.from_folder(next(iter(shipped_bases().values())))


def seconds(num_parameters: float, form: ServingForm = ServingForm.BF16, **given: int) -> float:
    base = replace(SHIPPED, num_parameters=int(num_parameters))
    return effort(base, form, **given).seconds


def effort(base: Base, form: ServingForm, *, num_tokens: int = 16, num_processors: int = 4) -> Effort:
    return effort_of(base, form, num_tokens=num_tokens, num_processors=num_processors)


def test_a_small_base_is_held_whole_and_a_large_one_is_read_in_layers() -> None:
    assert not effort(SHIPPED, ServingForm.NF4).in_layers
    large = replace(SHIPPED, num_parameters=8_000_000_000)
    assert effort(large, ServingForm.NF4).in_layers
    packed = replace(SHIPPED, num_parameters=1_000_000_000, form=ServingForm.NF4)
    assert not effort(packed, ServingForm.NF4).in_layers


def test_what_is_expected_grows_with_the_base_and_falls_with_the_processors() -> None:
    assert seconds(70e9) > seconds(8e9) > 0
    assert seconds(8e9, ServingForm.NF4) > seconds(8e9)
    assert seconds(8e9, num_processors=64) < seconds(8e9)
    assert seconds(8e9, num_tokens=64) > seconds(8e9)


async def test_a_base_that_takes_too_long_is_served_and_the_receipt_says_so(bench: Bench) -> None:
    bench.oracle.expected_seconds = 300.0
    await bench.load(bench.parity(mode="auto"))
    (body,) = bench.bodies
    assert body["source"] == "none" and bench.oracle.num_asked == 0
    assert "about 300 s" in str(body["not_measured"]) and "90 s are the limit" in str(body["not_measured"])
    assert "--parity full" in str(body["not_measured"])
    await bench.load(bench.parity(mode="auto"))
    assert len(bench.bodies) == 1, "a restarted server does not check again"
    bench.oracle.expected_seconds = 30.0
    await bench.load(bench.parity(mode="auto"))
    assert bench.bodies[1]["source"] == "peft", "one with more time, or more processors, does"


async def test_a_recorded_reference_is_enough_however_large_the_base_is(bench: Bench) -> None:
    bench.oracle.expected_seconds = 300.0
    reference(-2.01).write(bench.adapter.path)
    await bench.load(bench.parity(mode="auto"))
    assert bench.bodies[0]["source"] == "trainer"


async def test_an_operator_who_asks_for_all_waits_as_long_as_it_takes(bench: Bench) -> None:
    bench.oracle.expected_seconds = 3000.0
    await bench.load(bench.parity(mode="full"))
    assert bench.bodies[0]["source"] == "peft"


async def test_on_a_large_base_the_served_adapter_draws_the_tokens(bench: Bench) -> None:
    """One pass over the base scores them all."""
    asked: list[tuple[list[int], Any]] = []

    async def generate(prompt: Any, sampling: Any, *, request_id: str, adapter: Any) -> Any:
        asked.append((list(prompt), sampling))
        for token in range(sampling.max_tokens):
            yield Delta(choice=0, text="", token_ids=(token % 7,))

    bench.engine.generate = generate  # type: ignore[attr-defined]
    bench.oracle.in_layers = True
    parity = bench.parity(mode="auto")
    await bench.load(parity)
    ((prompt, sampling),) = asked
    assert len(prompt) == 1 and sampling.max_tokens == 31 and sampling.ignore_eos and sampling.temperature == 1.0
    assert bench.bodies[0]["source"] == "peft" and bench.oracle.num_asked == 1


async def test_what_was_computed_is_not_computed_again_where_the_engine_died_meanwhile(bench: Bench) -> None:
    parity = bench.parity(mode="auto")
    bench.engine.error = EngineDied("gone")
    for _ in range(2):
        with pytest.raises(EngineDied):
            await bench.load(parity)
    bench.engine.error = None
    await bench.load(parity)
    assert bench.oracle.num_asked == 1 and bench.bodies[0]["source"] == "peft"


@pytest.mark.parametrize(("error", "refused"), [(ParityUnavailable("killed"), 1), (Unmeasurable("fused"), 0)])
async def test_no_load_fails_for_ever(bench: Bench, error: ParityUnavailable, refused: int) -> None:
    """A process that is killed each time, or a base that cannot be read so: after a second try it is served."""
    bench.oracle.error = error
    parity = bench.parity(mode="auto")
    for _ in range(refused):
        with pytest.raises(ParityUnavailable):
            await bench.load(parity)
    await bench.load(parity)
    receipt = parity.receipt(DIGEST)
    assert receipt is not None and receipt.why == str(error)


async def test_an_operator_who_asks_for_all_hears_that_a_base_cannot_be_measured(bench: Bench) -> None:
    bench.oracle.error = Unmeasurable("the base's weights are quantized already")
    with pytest.raises(ParityFailed, match="quantized already"):
        await bench.load(bench.parity(mode="full"))


async def test_what_peft_refuses_is_refused(bench: Bench) -> None:
    bench.oracle.error = ParityFailed("no such module")
    parity = bench.parity(mode="auto")
    for _ in range(3):
        with pytest.raises(ParityFailed, match="no such module"):
            await bench.load(parity)
