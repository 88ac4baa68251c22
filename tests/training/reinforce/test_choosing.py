"""Which answers are learned from: every one is kept, or counted with its reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.reinforce.choosing import Choosing
from graft.training.reinforce.rollout import Group, Rollout
from tests.training.reinforce.made import group, rollout

REWARDS = st.lists(st.sampled_from([0.0, 1.0, None]), min_size=1, max_size=5)


def test_each_reason_is_told() -> None:
    groups = [
        group([0.0, 1.0, None], steps=[7, 7, 7]),
        group([1.0, 1.0]),
        group([0.5, 0.5], steps=[6, 6]),
        group([0.0, 1.0], steps=[6, 5]),
    ]
    chosen = Choosing(max_age=1).chosen(groups, step=7)
    assert [one.scores for one in chosen.groups] == [[0.0, 1.0]]
    assert chosen.dropped == {"old": 3, "ungraded": 1, "flat": 3}  # of the last group one answer is left
    assert chosen.metrics == pytest.approx({"dropped/old": 3 / 9, "dropped/ungraded": 1 / 9, "dropped/flat": 3 / 9})


def test_a_flat_group_can_stay() -> None:
    chosen = Choosing(drops_flat=False).chosen([group([1.0, 1.0])], step=0)
    assert len(chosen.groups) == 1 and not any(chosen.dropped.values())


@given(st.lists(st.tuples(REWARDS, st.integers(0, 3)), max_size=5), st.integers(0, 3), st.booleans())
def test_nothing_is_lost(given_: list[tuple[list[float | None], int]], max_age: int, drops_flat: bool) -> None:
    groups = [group(rewards, steps=[step] * len(rewards)) for rewards, step in given_]
    chosen = Choosing(max_age=max_age, drops_flat=drops_flat).chosen(groups, step=3)
    num_kept = sum(len(one.rollouts) for one in chosen.groups)
    assert num_kept + sum(chosen.dropped.values()) == chosen.num_given == sum(len(one.rollouts) for one in groups)
    for one in chosen.groups:
        assert all(3 - each.step <= max_age for each in one.rollouts)
        assert not drops_flat or len(set(one.scores)) > 1


def test_what_is_no_rollout_is_refused() -> None:
    with pytest.raises(ValueError, match="2 log-probabilities are given for 1 tokens"):
        Rollout(prompt_ids=[1], answer_ids=[2], logprobs=[0.0, 0.0], step=0, version="", is_whole=True)
    with pytest.raises(ValueError, match="an answer of one token"):
        rollout(0)
    with pytest.raises(ValueError, match="as many rewards"):
        Group(prompt=0, rollouts=[rollout()], rewards=[])
    with pytest.raises(ValueError, match="nobody graded"):
        _ = group([None]).scores
