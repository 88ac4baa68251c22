"""The order of many rows: each once, at random, without a list of them."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.batch.order import MAX_LISTED, OrderedRows, random_order
from graft.training.batch.permutation import Permutation


@given(st.integers(1, 5000), st.text(max_size=5))
def test_every_number_comes_once(num: int, seed: str) -> None:
    assert sorted(Permutation(num, seed)[:]) == list(range(num))


@given(st.integers(1, 10**12), st.integers(0, 10**12))
def test_a_stretch_is_what_its_numbers_are_by_themselves(num: int, begin: int) -> None:
    order = Permutation(num, "seed")
    begin %= num
    stretch = order[begin : begin + 5]
    assert stretch == [order[at] for at in range(begin, min(num, begin + 5))]
    assert all(0 <= one < num for one in stretch)


def test_few_rows_keep_the_order_that_they_had() -> None:
    """Python's own shuffle, which earlier versions used for any number: their checkpoints go on alike."""
    order = list(range(1000))
    Random("3/1").shuffle(order)
    rows = OrderedRows(1000, rows_per_batch=1, batches_per_step=4, seed=3)
    assert [one for step in range(250, 500) for (one,) in rows._numbers(step)] == order


@pytest.mark.parametrize("num", [MAX_LISTED + 1, 10**6 + 3])
def test_many_rows_stand_at_random_places(num: int) -> None:
    """Where a row comes, and what comes next to it, is as in a uniform order: chi-square of 15 degrees of freedom below
    its 99.99th percentile (44.3), of each of four epochs.
    """
    for epoch in range(4):
        order = random_order(num, f"0/{epoch}")
        sample = order[1000:21_000]
        apart = [(after - before) % num for before, after in pairwise(sample)]
        for values in (sample, apart):
            buckets = Counter(16 * one // num for one in values)
            expected = len(values) / 16
            assert sum((buckets[at] - expected) ** 2 / expected for at in range(16)) < 44.3
    assert len(set(map(tuple, (random_order(num, f"0/{epoch}")[:9] for epoch in range(4))))) == 4


def test_a_hundred_million_rows_take_no_memory() -> None:
    rows = OrderedRows(10**8, rows_per_batch=16, batches_per_step=2, seed=0)
    tracemalloc.start()
    try:
        drawn = [one for step in (0, 3_124_999, 3_125_000, 10**9) for batch in rows._numbers(step) for one in batch]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert len(drawn) == 4 * 32 and max(drawn) < 10**8
