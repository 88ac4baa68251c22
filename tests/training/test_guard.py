"""What is skipped, when the run goes back, and when it gives up."""

from __future__ import annotations

import random

import pytest

from graft.training.guard import MIN_SEEN, Guard, Verdict


def settled(**options: int) -> Guard:
    guard, rng = Guard(**options), random.Random(0)
    for _ in range(MIN_SEEN * 2):
        assert guard.judge(3 + rng.gauss(0, 0.1), 1 + rng.gauss(0, 0.2)) is Verdict.TAKE
    return guard


@pytest.mark.parametrize(
    ("loss", "norm"), [(float("nan"), 1.0), (3.0, float("inf")), (4.0, 1.0), (3.0, 3.0), (float("inf"), float("nan"))]
)
def test_spikes_and_what_is_no_number_are_skipped(loss: float, norm: float) -> None:
    guard = settled()
    assert guard.judge(loss, norm) is Verdict.SKIP
    assert guard.judge(3.0, 1.0) is Verdict.TAKE
    assert guard.num_skipped == 1


def test_a_fall_is_no_spike_and_the_first_steps_are_never_unusual() -> None:
    assert settled().judge(0.1, 0.01) is Verdict.TAKE
    guard = Guard()
    assert [guard.judge(10.0 / step, 5.0) for step in range(1, 9)] == [Verdict.TAKE] * 8
    assert guard.judge(1000.0, 1000.0) is Verdict.TAKE


def test_several_in_a_row_go_back_and_then_give_up() -> None:
    guard = settled(patience=2, max_returns=1)
    nan = float("nan")
    assert [guard.judge(nan, nan) for _ in range(4)] == [
        Verdict.SKIP,
        Verdict.GO_BACK,
        Verdict.SKIP,
        Verdict.GIVE_UP,
    ]


def test_a_resumed_guard_judges_alike() -> None:
    guard, again = settled(), Guard()
    guard.judge(9.0, 9.0)
    again.restore(guard.state())
    assert again == guard
