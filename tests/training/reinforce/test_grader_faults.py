"""When graders fail: what is told, and when a training ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.reinforce.asking.grader_faults import (
    FaultTally,
    GraderFault,
    GraderFaults,
    GradersFailed,
    Tolerance,
)


def found(num_answers: int, **kinds: int) -> GraderFaults:
    faults = [
        GraderFault(kind=kind, details=f"p: {kind}\nin two lines") for kind, num in kinds.items() for _ in range(num)
    ]
    return GraderFaults(num_answers=num_answers, faults=faults)


def test_what_is_said_of_a_round() -> None:
    round_ = found(64, model_grader_server=2, python_grader_runtime=10)
    assert str(round_) == (
        "graders failed on 12 of 64 answers (19%): python_grader_runtime 10, model_grader_server 2; "
        "the first: p: model_grader_server in two lines"
    )
    assert round_.metrics == {"grader_errors/python_grader_runtime": 10, "grader_errors/model_grader_server": 2}


@pytest.mark.parametrize(
    ("setting", "num_faults", "ends"),
    [
        ("auto", 32, False),
        ("auto", 33, True),
        (0, 0, False),
        (0, 1, True),
        (1, 64, False),
        (0.25, 16, False),
        (0.25, 17, True),
    ],
)
def test_when_a_training_ends(setting: float | str, num_faults: int, ends: bool) -> None:
    """Of 64 answers."""
    tolerance, round_ = Tolerance.of(setting), found(64, python_grader_runtime=num_faults)
    if not ends:
        tolerance.check(round_)
        return
    with pytest.raises(GradersFailed, match=f"{num_faults} of 64 .*max_grader_error_share") as caught:
        tolerance.check(round_)
    assert "\n" not in str(caught.value)


def test_a_round_without_answers_ends_nothing() -> None:
    Tolerance(max_share=0).check(found(0))


def test_no_share() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        Tolerance(max_share=1.5)


def test_long_words_are_cut() -> None:
    assert len(str(GraderFaults(num_answers=1, faults=[GraderFault(kind="other", details="x" * 10_000)]))) < 500


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=200))
def test_it_is_told_seldom_and_nothing_is_lost(rounds: list[tuple[int, int]]) -> None:
    tally, told = FaultTally(), list[str]()
    for other, python in rounds:
        tally, said = tally.after(found(16, other=other, python_grader_runtime=python))
        told += [said] if said is not None else []
    assert tally.num_answers == 16 * len(rounds)
    assert tally.by_kind.get("other", 0) == sum(one for one, _ in rounds)
    assert bool(told) == bool(tally.num_faults)
    assert 2 ** max(0, len(told) - 1) <= max(1, tally.num_faults)
    assert tally.num_faults == 0 or tally.num_faults < 2 * tally.num_told
