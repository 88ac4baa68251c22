"""The test of two sides: its bound against simulated traffic, its value against a slow maximisation, and its power."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.server.releases.policy.evidence import Losses, is_worse, log_evidence_worse


@st.composite
def losses(draw: st.DrawFn) -> Losses:
    num = draw(st.integers(0, 40))
    return Losses(num=num, total=draw(st.floats(0, num)))


@given(one=losses(), other=losses())
@settings(max_examples=25)
def test_the_evidence_is_the_mixture_over_the_best_pair_of_means_of_the_hypothesis(one: Losses, other: Losses) -> None:
    """Midpoints over q = sin(t)^2, for which Jeffreys' prior is uniform; a grid of pairs p(one) <= p(other)."""
    angles = (np.arange(5_000) + 0.5) * (np.pi / 2 / 5_000)
    means = np.sin(np.linspace(0, np.pi / 2, 4_001)) ** 2

    def mixture(side: Losses) -> float:
        return float(np.mean(np.sin(angles) ** (2 * side.total) * np.cos(angles) ** (2 * (side.num - side.total))))

    def likelihood(side: Losses) -> np.ndarray:
        return np.asarray(means**side.total * (1 - means) ** (side.num - side.total))

    # For each mean of the other side, the best of one that is no greater.
    best = float(np.max(np.maximum.accumulate(likelihood(one)) * likelihood(other)))
    expected = math.log(mixture(one)) + math.log(mixture(other)) - math.log(best)
    assert log_evidence_worse(one, other) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kind", ["errors of a twentieth", "errors of a half", "rewards"])
def test_looked_at_after_every_answer_it_errs_no_more_often_than_said(kind: str) -> None:
    """200 runs of 200 answers under the hypothesis' edge; the alarms are no more than chance makes of 5 %."""
    random_ = random.Random(7)
    draws: dict[str, Callable[[], float]] = {
        "errors of a twentieth": lambda: float(random_.random() < 0.05),
        "errors of a half": lambda: float(random_.random() < 0.5),
        "rewards": lambda: random_.betavariate(2, 5),
    }
    draw = draws[kind]
    num_alarms = 0
    for _ in range(200):
        sums, counts = [0.0, 0.0], [0, 0]
        for _ in range(200):
            side = random_.random() < 0.3
            sums[side] += draw()
            counts[side] += 1
            if is_worse(
                Losses(num=counts[1], total=sums[1]), Losses(num=counts[0], total=sums[0]), max_false_alarm=0.05
            ):
                num_alarms += 1
                break
    more = 1 - sum(math.comb(200, num) * 0.05**num * 0.95 ** (200 - num) for num in range(num_alarms))
    assert more > 1e-3


def test_a_side_that_always_fails_is_found_after_its_second_answer() -> None:
    """36 good answers and two that fail: Fisher's exact test gives 1 in 703."""
    stable = Losses(num=36, total=0)
    assert not is_worse(Losses(num=0, total=0), stable, max_false_alarm=0.025)
    assert is_worse(Losses(num=2, total=2), stable, max_false_alarm=0.025)


def test_what_is_as_good_or_better_is_never_worse() -> None:
    for total in range(50):
        assert not is_worse(Losses(num=50, total=total), Losses(num=50, total=total), max_false_alarm=0.5)
