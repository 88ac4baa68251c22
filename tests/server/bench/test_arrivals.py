"""Demand: Zipf's shares, equal demand, Poisson arrivals, all reproducible."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.bench.serving.load.arrivals import equal_draws, mapped, poisson, zipf_draws, zipf_weights
from graft.bench.serving.peers.contenders import token_ids


def test_zipf_shares_fall_by_rank_to_the_power() -> None:
    weights = zipf_weights(1000, 1.1)
    assert sum(weights) == pytest.approx(1.0)
    assert weights[0] / weights[9] == pytest.approx(10**1.1)
    assert weights[9] / weights[99] == pytest.approx(10**1.1)


def test_draws_follow_the_shares_and_the_seed() -> None:
    draws = zipf_draws(20_000, 50, exponent=1.1, seed=1)
    counts = Counter(draws)
    for adapter, weight in enumerate(zipf_weights(50, 1.1)):
        # Four standard deviations of a binomial count.
        assert abs(counts[adapter] - 20_000 * weight) < 4 * (20_000 * weight) ** 0.5 + 1
    assert draws == zipf_draws(20_000, 50, exponent=1.1, seed=1)
    assert draws != zipf_draws(20_000, 50, exponent=1.1, seed=2)


@given(st.integers(1, 20), st.integers(1, 30), st.integers(0, 100))
def test_equal_demand_is_equal_in_every_round(num_rounds: int, num_adapters: int, seed: int) -> None:
    draws = equal_draws(num_rounds, num_adapters, seed=seed)
    for start in range(0, len(draws), num_adapters):
        assert sorted(draws[start : start + num_adapters]) == list(range(num_adapters))
    assert len(draws) == num_rounds * num_adapters


def test_poisson_arrivals_have_their_rate_and_spread() -> None:
    arrivals = poisson([0] * 10_000, per_second=20.0, seed=3)
    gaps = [later.seconds - earlier.seconds for earlier, later in pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / 20, rel=0.05)
    # An exponential's standard deviation is its mean.
    assert (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 == pytest.approx(mean, rel=0.1)


def test_mapping_keeps_the_times() -> None:
    arrivals = poisson(list(range(100)), per_second=5.0, seed=4)
    fewer = mapped(arrivals, 16)
    assert [each.seconds for each in fewer] == [each.seconds for each in arrivals]
    assert {each.adapter for each in fewer} == set(range(16))


def test_prompts_are_reproducible_in_range_and_share_no_prefix() -> None:
    prompts = [token_ids(64, 384, seed=f"x/{number}") for number in range(200)]
    assert prompts[7] == token_ids(64, 384, seed="x/7")
    assert all(16 <= each < 384 for prompt in prompts for each in prompt)
    assert len({tuple(prompt[:16]) for prompt in prompts}) == 200
