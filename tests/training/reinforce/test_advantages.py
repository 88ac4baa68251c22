"""Advantages of groups: what the papers say, and what holds whatever the rewards."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, stdev

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.training.reinforce.advantages import ESTIMATORS, centred, leave_one_out, standardised, whitened

REWARDS = st.lists(st.floats(-10, 10, allow_subnormal=False).map(lambda one: round(one, 3)), min_size=2, max_size=9)


@given(REWARDS)
def test_an_answer_is_compared_with_the_others_alone(rewards: list[float]) -> None:
    expected = [reward - fmean(rewards[:number] + rewards[number + 1 :]) for number, reward in enumerate(rewards)]
    assert leave_one_out(rewards) == pytest.approx(expected, abs=1e-9)


@given(REWARDS, st.floats(-5, 5), st.floats(0.1, 10))
def test_baselines_do_not_see_what_all_answers_share(rewards: list[float], shift: float, scale: float) -> None:
    moved = [scale * reward + shift for reward in rewards]
    for estimator in (centred, leave_one_out):
        assert estimator(moved) == pytest.approx([scale * one for one in estimator(rewards)], abs=1e-8)
        assert sum(estimator(rewards)) == pytest.approx(0, abs=1e-9)
    if stdev(rewards) > 0.5 and scale > 1:
        assert standardised(moved) == pytest.approx(standardised(rewards), rel=3e-4, abs=1e-6)


@given(REWARDS)
def test_a_better_answer_never_has_the_smaller_advantage(rewards: list[float]) -> None:
    for estimator in ESTIMATORS.values():
        ranked = [advantage for _, advantage in sorted(zip(rewards, estimator(rewards), strict=True))]
        assert all(one <= other + 1e-12 for one, other in pairwise(ranked))
        assert estimator(rewards[::-1]) == pytest.approx(estimator(rewards)[::-1], abs=1e-9)


@pytest.mark.parametrize("estimator", [standardised, centred, leave_one_out])
def test_where_all_are_worth_the_same_nothing_is_learned(estimator: object) -> None:
    assert callable(estimator)
    for rewards in ([0.3] * 4, [1.0]):
        assert estimator(rewards) == pytest.approx([0.0] * len(rewards), abs=1e-9)


def test_deviations_are_those_of_trl() -> None:
    utils = pytest.importorskip("trl.trainer.utils", reason="TRL is the oracle (the extra dev)")
    rewards = torch.tensor([[0.0, 1.0, 1.0, 0.25], [3.0, -2.0, 0.5, 0.5]], dtype=torch.float64)
    expected = (rewards - rewards.mean(1, keepdim=True)) / (utils.nanstd(rewards, dim=1)[:, None] + 1e-4)
    for row, own in zip(rewards.tolist(), expected.tolist(), strict=True):
        assert standardised(row) == pytest.approx(own, abs=1e-6)  # its count is float32


@given(REWARDS)
def test_whitening(values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float64)
    expected = (tensor - tensor.mean()) * torch.rsqrt(tensor.var() + 1e-8)
    assert whitened(values) == pytest.approx(expected.tolist(), abs=1e-6)
    assert whitened(values, keeps_mean=True) == pytest.approx((expected + tensor.mean()).tolist(), abs=1e-6)
    assert whitened(values[:1]) == values[:1]
