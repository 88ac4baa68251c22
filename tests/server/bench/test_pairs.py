"""Pairing: equal turns, warm-up thrown away, ratios per pair."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graft.bench.serving.measurements.workbench import Window, measure_pairs, order_of


async def test_sides_alternate_and_the_warm_up_is_thrown_away() -> None:
    calls: list[str] = []

    def window(name: str, value: float) -> Window:
        async def measure(pair: int) -> float:
            calls.append(f"{name}{pair}")
            return value + pair

        return measure

    pairs = await measure_pairs(window("a", 10.0), window("b", 20.0), 3)
    assert calls == ["b-1", "a-1", "a0", "b0", "b1", "a1", "a2", "b2"]
    assert [pair.ratio for pair in pairs] == [10 / 20, 11 / 21, 12 / 22]


@given(st.integers(1, 50))
def test_each_side_goes_first_as_often(num_pairs: int) -> None:
    first = [order_of(pair)[0] for pair in range(2 * num_pairs)]
    assert first.count(0) == first.count(1)


async def test_what_slows_both_sides_cancels() -> None:
    async def window(pair: int) -> float:
        return 100.0 / (1 + pair)

    assert {pair.ratio for pair in await measure_pairs(window, window, 5, num_warm=0)} == {1.0}
