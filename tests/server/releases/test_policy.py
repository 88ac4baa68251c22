"""A canary's rules, and a gate's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.adapters.errors import Conflict
from graft.server.releases.policy.canary import CanarySpec, Tally, Verdict, judge
from graft.server.releases.policy.gate import (
    Comparison,
    Figure,
    GateReport,
    GateSpec,
    Parity,
    ValidationLoss,
    decide,
)
from graft.server.releases.policy.stages import Stage, check_move

SPEC = CanarySpec(num_answers=50)
COMPARED = Parity(was_compared=True)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    num = draw(st.integers(0, 300))
    outcomes = draw(st.integers(0, num))
    return Tally(
        num_answers=num,
        num_errors=draw(st.integers(0, num)),
        num_outcomes=outcomes,
        sum_outcomes=draw(st.floats(0, outcomes)),
    )


@given(canary=tallies(), stable=tallies())
@settings(max_examples=50)
def test_a_verdict_has_its_reasons_and_comes_by_the_end(canary: Tally, stable: Tally) -> None:
    found = judge(SPEC, canary, stable)
    assert bool(found.reasons) is (found.verdict is not Verdict.GO_ON)
    assert (found.verdict is Verdict.GO_ON) <= (canary.num_answers < SPEC.num_answers or stable.num_answers < 20)
    assert (found.verdict is Verdict.PROMOTE) <= (canary.num_answers >= SPEC.num_answers)


@given(canary=tallies(), stable=tallies())
@settings(max_examples=50)
def test_a_canary_that_is_no_worse_in_anything_is_never_taken_back(canary: Tally, stable: Tally) -> None:
    is_worse = canary.errors.mean > stable.errors.mean or canary.shortfalls.mean > stable.shortfalls.mean
    if not is_worse:
        assert judge(SPEC, canary, stable).verdict is not Verdict.ROLL_BACK


def test_worse_outcomes_take_it_back_before_the_end() -> None:
    good, bad = Tally(num_answers=90, num_outcomes=90, sum_outcomes=81), Tally(num_answers=10, num_outcomes=10)
    found = judge(SPEC, bad, good)
    assert found.verdict is Verdict.ROLL_BACK
    assert "outcomes, short of 1 10 of 10 against 9 of 90 of stable" in found.reasons[0]


def test_in_the_end_what_is_worse_beyond_the_tolerance_is_taken_back_though_it_may_be_chance() -> None:
    stable = Tally(num_answers=40, num_errors=0)
    assert judge(SPEC, Tally(num_answers=49, num_errors=3), stable).verdict is Verdict.GO_ON
    assert judge(SPEC, Tally(num_answers=50, num_errors=3), stable).verdict is Verdict.ROLL_BACK
    assert judge(SPEC, Tally(num_answers=50, num_errors=2), stable).verdict is Verdict.PROMOTE


def test_where_outcomes_are_needed_answers_alone_promote_nobody() -> None:
    spec = replace(SPEC, needs_outcomes=True)
    many = Tally(num_answers=1_000)
    assert judge(spec, many, many).verdict is Verdict.GO_ON
    told = Tally(num_answers=1_000, num_outcomes=50, sum_outcomes=50)
    assert judge(spec, told, many).verdict is Verdict.GO_ON, "stable has no outcome to compare with"
    assert judge(spec, told, told).verdict is Verdict.PROMOTE


@pytest.mark.parametrize("num", [0, 1, 19])
def test_what_nothing_is_known_of_stable_promotes_nobody(num: int) -> None:
    """Stable may itself fail always: 200 errors of 200 are then no worse than its few."""
    failing = Tally(num_answers=200, num_errors=200)
    for canary in (failing, Tally(num_answers=200)):
        assert judge(SPEC, canary, Tally(num_answers=num, num_errors=num)).verdict is Verdict.GO_ON
    few = replace(SPEC, num_answers=5)
    assert judge(few, Tally(num_answers=5), Tally(num_answers=5)).verdict is Verdict.PROMOTE


def report(
    *, over_base: float = 0.2, low: float = 0.1, over_stable: float | None = 0.0, **others: object
) -> GateReport:
    def compared(digest: str | None, gain: float, low: float) -> Comparison:
        score = Figure(value=0.5, low=0.4, high=0.6)
        return Comparison(digest=digest, score=score, gain=Figure(value=gain, low=low, high=gain + 0.1))

    stable = None if over_stable is None else compared("sha256:1", over_stable, over_stable - 0.1)
    made = GateReport(
        metric="sums: exact_match",
        higher_is_better=True,
        num_questions=100,
        candidate=Figure(value=0.7, low=0.6, high=0.8),
        base=compared(None, over_base, low),
        stable=stable,
    )
    return replace(made, **others)  # type: ignore[arg-type]


GATE = GateSpec(metric=ValidationLoss())


def test_what_gains_for_certain_over_the_base_and_loses_nothing_to_stable_passes() -> None:
    found = decide(GATE, report(), COMPARED)
    assert found.passed
    assert "base 0.5000" in found.reasons[0]
    assert decide(GATE, report(over_stable=None), COMPARED).passed


@pytest.mark.parametrize(
    ("said", "parity", "words"),
    [
        (report(low=-0.01), COMPARED, "the gain over the base is 0.2000"),
        (report(low=0.0), COMPARED, "its lower end is not above the least of 0"),
        (report(over_stable=-0.01), COMPARED, "the gain over stable is -0.0100"),
        (report(own_over_others=Figure(value=0.1, low=-0.1, high=0.3)), COMPARED, "are the answers of the training"),
        (report(num_questions=5), COMPARED, "5 questions tell nothing"),
        (report(contamination=("line 3 is line 7 of the training file",)), COMPARED, "line 3 is line 7"),
        (report(), Parity(was_compared=False, why="it brings no reference"), "it brings no reference"),
    ],
)
def test_what_speaks_against_it_is_said(said: GateReport, parity: Parity, words: str) -> None:
    found = decide(GATE, said, parity)
    assert not found.passed
    assert words in found.reasons[0]


def test_all_that_speaks_against_it_is_said_at_once() -> None:
    found = decide(GATE, report(low=-1, over_stable=-1, num_questions=1), Parity(was_compared=False))
    assert not found.passed
    assert len(found.reasons) == 4 + 2


def test_a_least_gain_is_asked_for_in_the_metrics_units() -> None:
    assert not decide(replace(GATE, min_gain_over_base=0.1), report(low=0.1), COMPARED).passed
    assert decide(replace(GATE, min_gain_over_stable=-0.1), report(over_stable=-0.05), COMPARED).passed


def test_what_has_ended_stays_but_for_the_way_back_from_stable() -> None:
    ways = {(a, b) for a in Stage for b in Stage if _can(a, b)}
    assert ways == {
        (Stage.CANARY, Stage.STABLE),
        (Stage.CANARY, Stage.ROLLED_BACK),
        (Stage.CANARY, Stage.SUPERSEDED),
        (Stage.STABLE, Stage.ROLLED_BACK),
    }


def _can(stage: Stage, to: Stage) -> bool:
    try:
        check_move(stage, to)
    except Conflict:
        return False
    return True
