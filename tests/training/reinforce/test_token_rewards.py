"""Generalised advantage estimation and PPO's rewards, against sums that are written out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.reinforce.lesson import of_values
from graft.training.reinforce.rollout import Group
from graft.training.reinforce.token_rewards import estimated, token_rewards
from tests.training.reinforce.made import recalled, rollout

NUMBERS = st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=7)


@given(NUMBERS, st.floats(0, 1), st.floats(0, 1))
def test_it_is_the_discounted_sum_of_what_surprised(pairs: list[tuple[float, float]], gamma: float, lam: float) -> None:
    rewards, values = ([pair[number] for pair in pairs] for number in (0, 1))
    ahead = [*values, 0.0]
    surprises = [reward + gamma * ahead[t + 1] - ahead[t] for t, reward in enumerate(rewards)]
    expected = [
        sum((gamma * lam) ** (later - t) * surprises[later] for later in range(t, len(rewards)))
        for t in range(len(rewards))
    ]
    found = estimated(rewards, values, gamma=gamma, lam=lam)
    assert found.advantages == pytest.approx(expected, abs=1e-9)
    assert found.returns == pytest.approx([a + v for a, v in zip(expected, values, strict=True)], abs=1e-9)


@given(NUMBERS)
def test_at_one_the_return_is_all_that_comes_and_at_zero_the_next_step(pairs: list[tuple[float, float]]) -> None:
    rewards, values = ([pair[number] for pair in pairs] for number in (0, 1))
    to_go = [sum(rewards[t:]) for t in range(len(rewards))]
    assert estimated(rewards, values, gamma=1, lam=1).returns == pytest.approx(to_go, abs=1e-9)
    next_step = [reward + after for reward, after in zip(rewards, [*values[1:], 0.0], strict=True)]
    assert estimated(rewards, values, gamma=1, lam=0).returns == pytest.approx(next_step, abs=1e-9)


def test_each_token_pays_for_its_own_divergence() -> None:
    found = token_rewards(2.0, [-1.0, -0.5, -3.0], [-1.5, -0.25, -3.0], beta=0.1)
    assert found == pytest.approx([-0.05, 0.025, 2.0])


def test_lessons_of_values_are_white_together_and_returns_are_not() -> None:
    rollouts = [rollout(3), rollout(5)]
    memories = [recalled(one, values=True) for one in rollouts]
    made = of_values([Group(prompt=0, rollouts=rollouts, rewards=[1.0, -1.0], recalled=memories)], beta=0.5)
    advantages = [value for one in made for value in one.advantages]
    assert sum(advantages) == pytest.approx(0, abs=1e-9)
    assert sum(value**2 for value in advantages) / (len(advantages) - 1) == pytest.approx(1, rel=1e-6)
    rewards = [-0.1, -0.1, 0.9]  # 0.5 × 0.2 nats for each token
    assert made[0].returns == pytest.approx(estimated(rewards, [0.5, 0.6, 0.7]).returns)
