"""Every way through a job's states ends, and what has ended stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.adapters.errors import Conflict
from graft.server.jobs.policy.states import ENDED, HELD, JobState, Move, after

S, M = JobState, Move


def follow(state: JobState, *moves: Move) -> JobState:
    for move in moves:
        state = after(state, move)
    return state


def test_the_ways_that_users_know() -> None:
    begun = follow(S.VALIDATING_FILES, M.ACCEPT, M.CLAIM)
    assert begun is S.RUNNING and follow(begun, M.SUCCEED) is S.SUCCEEDED and follow(begun, M.FAIL) is S.FAILED
    paused = follow(begun, M.PAUSE, M.RELEASE)
    assert paused is S.PAUSED and follow(paused, M.RESUME, M.CLAIM, M.SUCCEED) is S.SUCCEEDED
    assert follow(begun, M.PAUSE) is S.PAUSING and follow(begun, M.RELEASE) is S.QUEUED
    assert follow(S.VALIDATING_FILES, M.FAIL) is S.FAILED


def test_resumed_before_its_worker_has_stopped_it_is_not_lost() -> None:
    resumed = follow(S.RUNNING, M.PAUSE, M.RESUME)
    assert resumed is S.RUNNING and follow(resumed, M.RELEASE) is S.QUEUED


@given(st.sampled_from(JobState), st.lists(st.sampled_from(Move), max_size=12))
def test_whatever_happens(state: JobState, moves: list[Move]) -> None:
    for move in moves:
        try:
            following = after(state, move)
        except Conflict as error:
            assert f"is {state}" in str(error)
            continue
        if state in ENDED:
            assert following is state, "what has ended stays"
        if move is M.CANCEL:
            assert following is S.CANCELLED
        if following in HELD and state not in HELD:
            assert move is M.CLAIM, "only a claim gives a job to a worker"
        state = following


@pytest.mark.parametrize("state", [state for state in JobState if state not in ENDED])
def test_from_everywhere_it_can_be_cancelled(state: JobState) -> None:
    assert after(state, M.CANCEL) is S.CANCELLED


def test_a_refusal_says_what_can_be_asked() -> None:
    with pytest.raises(
        Conflict, match="a job cannot pause now: status: is validating_files; it can be asked to cancel"
    ):
        after(S.VALIDATING_FILES, M.PAUSE)
    with pytest.raises(Conflict, match="it has ended; make a new job"):
        after(S.FAILED, M.RESUME)
