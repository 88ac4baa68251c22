"""What is left out, when the run goes back, and when it gives up."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from graft.training.loop.guard import MIN_SEEN, WINDOW, Guard, Verdict

NAN = float("nan")


def settled(**options: Any) -> Guard:
    guard, rng = Guard(**options), random.Random(0)
    for step in range(MIN_SEEN * 2):
        assert guard.judge(3 + rng.gauss(0, 0.1), 1 + rng.gauss(0, 0.2), step=step) is Verdict.TAKE
    return guard


@pytest.mark.parametrize(
    ("loss", "norm"), [(NAN, 1.0), (3.0, float("inf")), (4.0, 1.0), (3.0, 3.0), (float("inf"), NAN)]
)
def test_spikes_and_what_is_no_number_are_skipped(loss: float, norm: float) -> None:
    guard = settled()
    assert guard.judge(loss, norm, step=64) is Verdict.SKIP
    assert guard.judge(3.0, 1.0, step=65) is Verdict.TAKE
    assert guard.num_skipped == 1 and guard.skipped == [64]


def test_a_fall_is_no_spike_and_the_first_steps_are_never_unusual() -> None:
    assert settled().judge(0.1, 0.01, step=64) is Verdict.TAKE
    guard = Guard()
    assert [guard.judge(10.0 / step, 5.0, step=step) for step in range(1, 9)] == [Verdict.TAKE] * 8
    assert guard.judge(1000.0, 1000.0, step=9) is Verdict.TAKE


def test_several_in_a_row_go_back_and_then_give_up() -> None:
    guard = settled(patience=2, max_returns=1)
    assert [guard.judge(NAN, NAN, step=step) for step in range(4)] == [
        Verdict.SKIP,
        Verdict.GO_BACK,
        Verdict.SKIP,
        Verdict.GIVE_UP,
    ]


def test_a_last_step_without_a_number_loses_a_training_that_had_hardly_begun() -> None:
    whole, begun = settled(), Guard()
    begun.judge(3.0, 1.0, step=0)
    assert not begun.is_lost
    for guard in (whole, begun):
        guard.judge(NAN, 1.0, step=64)
    assert begun.is_lost and not whole.is_lost


def test_a_resumed_guard_judges_alike() -> None:
    guard, again = settled(), Guard()
    guard.judge(9.0, 9.0, step=64)
    again.restore(json.loads(json.dumps(guard.state())))
    assert again == guard
    earlier = {name: value for name, value in guard.state().items() if name not in ("skipped", "taken_since_return")}
    Guard().restore(earlier)


@pytest.mark.parametrize(("loss", "norm"), [(6.0, 1.0), (3.0, 9.0), (6.0, 9.0), (300.0, 0.0)])
def test_reading_15_a_rise_that_lasts_is_taken_after_one_return(loss: float, norm: float) -> None:
    """Older weights find the same: it is the data's. The new level is then the measure."""
    guard, rng = settled(), random.Random(1)
    found = [guard.judge(loss * rng.uniform(0.98, 1.02), norm, step=step) for step in range(64, 264)]
    assert found == [Verdict.SKIP, Verdict.SKIP, Verdict.GO_BACK] + [Verdict.TAKE] * 197
    assert guard.judge(loss * 3 + 1, norm, step=264) is Verdict.SKIP


def test_reading_15_a_return_that_helped_is_forgotten_after_a_window() -> None:
    guard = settled(patience=1, max_returns=1)
    for start in range(64, 64 + 5 * (WINDOW + 1), WINDOW + 1):
        assert guard.judge(NAN, NAN, step=start) is Verdict.GO_BACK
        assert {guard.judge(3.0, 1.0, step=start + 1 + number) for number in range(WINDOW)} == {Verdict.TAKE}
    assert guard.judge(NAN, NAN, step=999) is Verdict.GO_BACK
    assert guard.judge(3.0, 1.0, step=1000) is Verdict.TAKE
    assert guard.judge(NAN, NAN, step=1001) is Verdict.GIVE_UP


def test_reading_15_weights_that_blew_up_are_left_behind_again_and_again_until_it_gives_up() -> None:
    """Each time the older weights are fine: the rise is theirs, not the data's."""
    guard = settled(max_returns=2)
    verdicts = []
    for _ in range(3):
        verdicts += [guard.judge(9.0, 9.0, step=0) for _ in range(3)]
        guard.judge(3.0, 1.0, step=0)
    assert verdicts[2::3] == [Verdict.GO_BACK, Verdict.GO_BACK, Verdict.GIVE_UP]


@pytest.mark.parametrize(("loss", "norm"), [(0.01, 0.0), (0.01, 0.001), (0.0, 0.0), (2.0, 1.0)])
def test_reading_15_losses_that_hardly_differ_are_no_measure_of_the_next(loss: float, norm: float) -> None:
    guard = Guard()
    for step in range(MIN_SEEN):
        guard.judge(loss, norm, step=step)
    assert guard.judge(loss * 1.25 + 0.05, norm * 1.25 + 0.05, step=32) is Verdict.TAKE
    assert guard.judge(loss * 4 + 1, norm, step=33) is Verdict.SKIP


def test_reading_15_a_setting_reaches_it() -> None:
    off = settled(sigmas=0.0)
    assert off.judge(1e6, 1e6, step=64) is Verdict.TAKE and off.judge(NAN, 1.0, step=65) is Verdict.SKIP
    assert settled(sigmas=100.0).judge(9.0, 1.0, step=64) is Verdict.TAKE


def test_reading_15_a_new_form_begins_anew() -> None:
    guard = settled()
    guard.begin_anew()
    assert guard.judge(9.0, 9.0, step=64) is Verdict.TAKE
