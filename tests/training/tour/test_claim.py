"""Claims hold where the whole interval reaches the bound; intervals beside figures from outside."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graft.training.evaluation.statistics.proportions import wilson
from graft.training.tour.claim import gains, share_is, variance_falls
from graft.training.tour.figure import accuracy, deviation, gain, mean_accuracy


def test_wilson_solves_its_own_equation() -> None:
    """Its ends are the shares p with |right/n − p| = z·√(p(1 − p)/n) (Wilson 1927)."""
    for right, num in ((1, 10), (81, 263), (5, 5), (0, 7), (40, 100)):
        for end in wilson(right, num):
            distance = abs(right / num - end)
            assert distance == pytest.approx(1.959963984540054 * math.sqrt(end * (1 - end) / num), abs=1e-9)


def test_wilson_as_newcombe_has_it() -> None:
    """Table I of Newcombe 1998 (Statistics in Medicine 17), method 3."""
    for right, num, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson(right, num) == pytest.approx((low, high), abs=5e-5)
    with pytest.raises(ValueError, match="no share"):
        wilson(3, 2)


def test_a_share_held_only_where_its_whole_interval_reaches_the_bound() -> None:
    nearly = [[True] * 85 + [False] * 15]
    assert not share_is("", nearly, at_least=80).held  # [76.7, 90.7]
    assert share_is("", nearly, at_least=76).held
    assert share_is("", [[True] * 50], at_least=80).held
    assert not share_is("", [[True] * 3], at_least=80).held
    with pytest.raises(ValueError, match="bound"):
        share_is("", nearly)


def test_no_difference_is_no_gain() -> None:
    same = [[True, False, True, True]]
    assert not gains("", same, same, seed=0, above=0).held
    better = gains("", [[False] * 40], [[True] * 40], seed=0, at_least=10)
    assert better.held and better.value == better.low == 100 and better.unit == "points"


def test_figures_are_means_of_their_runs() -> None:
    before, after = [[True, False], [False, False]], [[True, True], [True, False]]
    assert (accuracy(before).value, accuracy(before).runs) == (25, (50, 0))
    assert (gain(before, after).value, gain(before, after).runs) == (50, (50, 50))
    assert accuracy([[True] * 5, [False] * 5]).interval == pytest.approx((23.66, 76.34), abs=5e-3)


def uneven(rng: np.random.Generator) -> list[list[bool]]:
    """Prompts of which one is right half of the time, and one nearly always."""
    return [[bool(one) for one in rng.random(200) < share] for share in (0.5, 0.9, 0.6, 0.95)]


def test_less_variance_over_prompts() -> None:
    rng = np.random.default_rng(0)
    before, even = uneven(rng), [[bool(one) for one in rng.random(200) < 0.8]] * 4
    found = variance_falls("", [before], [even], seed=0, at_least=50)
    assert found.held and found.value == found.low == 100
    shares = [sum(run) / 200 for run in before]
    halved = [[index < round(200 * (0.7 + (share - 0.7) / 2)) for index in range(200)] for share in shares]
    found = variance_falls("", [before], [halved], seed=0, at_least=50)
    assert found.value == pytest.approx(75, abs=3) and found.low < found.value < found.high
    assert not variance_falls("", [even], [even], seed=0, at_least=50).held
    assert variance_falls("", [even], [before], seed=0, at_least=50).value < 0


def test_variances_are_those_within_sets() -> None:
    """Sets of different difficulty do not vary for that: each set's variance is its own."""
    easy, hard = [[True, True]] * 3, [[False, True]] * 3
    assert deviation([easy, hard], seed=0).value == 0
    spread = deviation([[[True] * 4, [False] * 4], easy], seed=0)
    assert list(spread.runs) == [50, 0] and spread.value == pytest.approx(100 * math.sqrt((0.25 + 0) / 2))
    assert spread.interval == pytest.approx((spread.value, spread.value))
    mean = mean_accuracy([easy, hard], seed=0)
    assert mean.value == 75 and list(mean.runs) == [100, 50]
    low, high = mean.interval or (0, 0)
    assert low < 75 < high


def test_intervals_cover_what_they_should() -> None:
    """Of 60 worlds with a known variance ratio, about 95 % of the intervals hold it (fewer than 85 %: once in 500)."""
    num_covered, truth = 0, 75.0
    for world in range(60):
        rng = np.random.default_rng(world)
        hardness = rng.random(100)
        before = [list(map(bool, hardness < share)) for share in (0.5, 0.9)]
        after = [list(map(bool, hardness < share)) for share in (0.6, 0.8)]
        claim = variance_falls("", [before], [after], seed=world, at_least=50)
        num_covered += claim.low <= truth <= claim.high
    assert num_covered >= 51
