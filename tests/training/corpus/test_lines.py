"""A sketch of a text's lines tells what share of another text stands in it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.corpus.lines import ALL, Sketching, hash_of, overlap, sketch_of


@given(st.lists(st.text("ab\n ", max_size=20), max_size=30), st.integers(1, 8))
def test_a_sketch_keeps_all_lines_below_its_bound_and_no_more_than_it_may(texts: list[str], most: int) -> None:
    sketch = sketch_of(texts, most)
    every = {hash_of(line.strip()) for text in texts for line in text.split("\n") if line.strip()}
    assert sketch.hashes.tolist() == sorted(one for one in every if one < sketch.bound)
    assert len(sketch.hashes) <= most and (sketch.bound == ALL) == (len(every) <= most)


def lines(begin: int, num: int) -> list[str]:
    return [f"line {number} of a text that is known by its lines" for number in range(begin, begin + num)]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_an_estimate_from_bounded_sketches_is_near_the_share(share: float) -> None:
    """2,000 of 100,000 lines are kept of each of two shards; of 20,000 held-out lines some 400 are compared: the
    standard deviation is 2.3 points at most.
    """
    known = round(20_000 * share)
    held_out = ["\n".join([*lines(0, known), *lines(10**6, 20_000 - known)])]
    rng = random.Random(0)
    seen = lines(0, 200_000)
    rng.shuffle(seen)
    sketches = [sketch_of(["\n".join(part)], 2000) for part in (seen[:100_000], seen[100_000:])]
    assert overlap(sketches, held_out) == pytest.approx(share, abs=4 * 0.023 if 0 < share < 1 else 0)


def test_where_no_held_out_line_is_below_the_bound_nothing_is_said() -> None:
    made = Sketching(1)
    for line in lines(0, 1000):
        made.add(line)
    assert overlap([made.sketch()], lines(10**6, 2)) is None
    assert overlap([made.sketch()], [" "]) == 0.0
