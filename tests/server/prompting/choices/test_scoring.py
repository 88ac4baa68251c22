"""Choices by their log-probabilities: the papers' formulas, computed again with numpy, and what must hold of any."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.prompting.choices.scoring import (
    Likelihood,
    alike,
    best,
    log_softmax,
    normalized,
    order_effect,
    probabilities,
    rotations,
    scored,
)

SCORES = st.lists(st.floats(-500, 0), min_size=2, max_size=20)


def likelihood(text: str = "été", logprob: float = -6.0, num_tokens: int = 3, other: float | None = -2.0) -> Likelihood:
    return Likelihood(text=text, token_ids=tuple(range(num_tokens)), logprob=logprob, unconditional=other)


def test_each_way_to_compare() -> None:
    choice = likelihood()
    assert normalized(choice, "sum") == -6.0
    assert normalized(choice, "token") == -2.0
    assert normalized(choice, "byte") == pytest.approx(-6 / 5), "é is two bytes of UTF-8"
    # Brown et al. 2020, section 2.4: P(completion | context) / P(completion | answer context).
    assert math.exp(normalized(choice, "unconditional")) == pytest.approx(math.exp(-6) / math.exp(-2))


@pytest.mark.parametrize(
    ("choice", "how"),
    [
        (likelihood(other=None), "unconditional"),
        (likelihood(num_tokens=0), "token"),
        (likelihood(text=""), "byte"),
        (likelihood(), "mean"),
    ],
)
def test_what_cannot_be_compared_is_an_error(choice: Likelihood, how: str) -> None:
    with pytest.raises(ValueError):
        normalized(choice, how)


@given(SCORES)
def test_probabilities_add_up_to_one_and_keep_the_order(scores: list[float]) -> None:
    found = probabilities(scores)
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-12)
    in_order = [found[index] for index in np.argsort(scores)]
    assert in_order == sorted(in_order)
    slow = np.exp(np.array(scores, dtype=np.longdouble) - max(scores))
    assert found == pytest.approx((slow / slow.sum()).astype(float).tolist(), abs=1e-12)


@given(SCORES, st.floats(-50, 50))
def test_what_is_added_to_all_changes_nothing(scores: list[float], shift: float) -> None:
    assert probabilities([score + shift for score in scores]) == pytest.approx(probabilities(scores), abs=1e-9)


def test_choices_that_cannot_be_have_no_probability_and_harm_no_other() -> None:
    assert probabilities([-math.inf, 0.0, 0.0]) == [0.0, 0.5, 0.5]
    assert probabilities([-math.inf, -math.inf]) == pytest.approx([0.5, 0.5])
    assert log_softmax([-1e6, -1e6 - 1])[0] == pytest.approx(-math.log1p(math.exp(-1)))


def test_ties_are_all_of_the_best() -> None:
    assert best([-3.0, -1.0, -2.0]) == [1]
    assert best([-1.0, -3.0, -1.0 - 1e-9]) == [0, 2]
    assert best([-math.inf, -math.inf]) == [0, 1]


def test_what_is_alike_is_named_group_by_group() -> None:
    assert alike(["a", "b", "a", "c", "b", "a"]) == [(0, 2, 5), (1, 4)]
    assert alike(["a", "b"]) == []


def test_scored_choices_keep_their_places() -> None:
    found = scored([likelihood("a"), likelihood("b", logprob=-1.0)], [-2.0, -1.0])
    assert [(choice.text, choice.logprob, choice.score) for choice in found] == [("a", -6.0, -2.0), ("b", -1.0, -1.0)]
    assert found[1].probability == pytest.approx(1 / (1 + math.exp(-1)))


def test_rotations_put_each_choice_once_into_each_place() -> None:
    orders = rotations(4, at_most=8)
    assert orders[0] == (0, 1, 2, 3)
    assert all(sorted(column) == [0, 1, 2, 3] for column in zip(*orders, strict=True))


@given(st.integers(2, 50), st.integers(1, 12))
def test_no_more_orders_than_wanted(num_choices: int, at_most: int) -> None:
    orders = rotations(num_choices, at_most=at_most)
    assert len(set(orders)) == len(orders) == min(num_choices, at_most)
    assert all(sorted(order) == list(range(num_choices)) for order in orders)


def test_an_order_effect_tells_mean_range_and_agreement() -> None:
    effect = order_effect([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]])
    assert effect.mean_probabilities == pytest.approx((0.7, 0.3))
    assert effect.ranges == pytest.approx((0.5, 0.5))
    assert effect.agreement == pytest.approx(2 / 3)
    assert effect.answer == 0
    assert order_effect([[0.9, 0.1]] * 4).ranges == (0.0, 0.0)
