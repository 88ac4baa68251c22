"""Intervals and paired tests, beside slow ones and figures from outside."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.evaluation.statistics.intervals import mean_of, resampled_means
from graft.training.evaluation.statistics.pairs import compare, mcnemar
from graft.training.evaluation.statistics.proportions import newcombe


def test_resampled_means_are_those_of_drawing_one_by_one() -> None:
    values = np.asarray([0.0, 0.0, 1.0, 2.0, 5.0])
    rng = np.random.default_rng(1)
    drawn = rng.choice(values, size=(20_000, len(values))).mean(axis=1)
    found = resampled_means(values, seed=0, num=20_000)
    for share in (0.025, 0.25, 0.5, 0.75, 0.975):
        assert np.quantile(found, share) == pytest.approx(np.quantile(drawn, share), abs=0.11)
    assert found.std() == pytest.approx(values.std() / math.sqrt(len(values)), rel=0.03)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        found = mean_of(list((rng.random(200) < 0.3).astype(float)), seed=trial)
        held += found.low <= 0.3 <= found.high
    assert 0.91 <= held / 300 <= 0.985


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert mean_of(values, seed=3) == mean_of(values, seed=3)
    assert mean_of([1.0], seed=0).mean == 1.0 and math.isnan(mean_of([1.0], seed=0).standard_error)


def test_standard_error_is_the_harness() -> None:
    """lm-eval's mean_stderr: sample deviation over the root of the number."""
    values = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    expected = math.sqrt(sum((one - 4 / 6) ** 2 for one in values) / 5) / math.sqrt(6)
    assert mean_of(values, seed=0).standard_error == pytest.approx(expected)


@given(st.integers(0, 9), st.integers(0, 9))
def test_mcnemar_counts_all_ways_to_split(better: int, worse: int) -> None:
    num = better + worse
    least = abs(better - worse)
    splits = [abs(2 * sum(flips) - num) >= least for flips in product((0, 1), repeat=num)] if num else [True]
    assert mcnemar(better, worse) == pytest.approx(sum(splits) / len(splits))


def test_mcnemar_of_a_textbook() -> None:
    """Agresti, Categorical Data Analysis: 86 against 150 discordant pairs, p = 0.00004 (exact: 3.7e-5)."""
    assert mcnemar(86, 150) == pytest.approx(3.7e-5, rel=0.1)
    assert 0 < mcnemar(3000, 7000) < 1e-300 or mcnemar(3000, 7000) == 0.0


def test_differences_have_a_sign_and_equal_models_none() -> None:
    before = [0.0] * 60 + [1.0] * 40
    after = [1.0] * 20 + before[20:]
    found = compare(before, after, seed=0)
    assert found.difference == pytest.approx(0.2) and found.low > 0 and found.p_value == pytest.approx(2 / 2**20)
    assert (found.test, found.num_better, found.num_worse) == ("McNemar, exact", 20, 0)
    same = compare(before, before, seed=0)
    assert (same.difference, same.p_value) == (0, 1) and -0.03 < same.low < 0 < same.high < 0.03
    resampled = compare(before, before, seed=0, is_only_resampled=True)
    assert resampled.low == resampled.high == 0


def test_newcombe_as_the_paper_has_it() -> None:
    """Table II of Newcombe (1998), method 10: 36, 12, 2 and 0 of 50 questions."""
    assert newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@given(st.tuples(*[st.integers(0, 12)] * 4).filter(any))
def test_newcombe_holds_the_difference_and_turns_with_the_models(counts: tuple[int, int, int, int]) -> None:
    both, better, worse, neither = counts
    low, high = newcombe(both, better, worse, neither)
    difference = (better - worse) / sum(counts)
    assert low <= difference + 1e-9 and difference <= high + 1e-9 and low < high
    assert newcombe(both, worse, better, neither) == pytest.approx((-high, -low))


def test_a_bootstrap_of_few_scores_is_not_below_a_sign_test() -> None:
    assert compare([0.1], [0.9], seed=0).p_value == 1
    assert compare([0.1] * 5, [0.9, 0.8, 0.7, 0.6, 0.5], seed=0).p_value == pytest.approx(2 / 2**5)


def test_scores_that_are_no_marks_are_compared_by_bootstrap() -> None:
    rng = np.random.default_rng(0)
    before = list(rng.normal(size=100))
    found = compare(before, [one + 0.5 + rng.normal() * 0.1 for one in before], seed=0)
    assert found.test == "paired bootstrap" and found.p_value < 0.001
    chance = compare(before, [one + rng.normal() for one in before], seed=0)
    assert chance.p_value > 0.02
