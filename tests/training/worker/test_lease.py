"""The worker's side of a lease: it has stopped before the server gives the job to another."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.jobs.policy.lease import Beat, Sightings, Term
from graft.training.worker.lease import Lease
from graft.training.worker.supervising.yielding import FirstTokens, Yielding, first_tokens


@dataclass
class Clock:
    now: float = 0.0


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20), st.booleans()), max_size=30), st.floats(0, 1e9))
def test_no_worker_runs_when_the_server_gives_its_job_up(words: list[tuple[float, float, bool]], begun: float) -> None:
    """Each word is sent, seen by the server some time later, and answered or not some time behind that. Their clocks
    have nothing in common.
    """
    term, clock = Term(worker_seconds=10.0), Clock()
    lease = Lease(term.worker_seconds, sent=0.0, now=lambda: clock.now)
    sightings, number = Sightings(term), 0
    sightings.look({"job": Beat(fence=1, beat=0)}, now=begun)
    for way, back, is_answered in words:
        if lease.is_over:
            break
        sent = clock.now
        for step in range(40):
            clock.now = sent + way * step / 40
            if sightings.look({"job": Beat(fence=1, beat=number)}, now=begun + clock.now):
                assert lease.is_over
                return
        number += 1
        sightings.look({"job": Beat(fence=1, beat=number)}, now=begun + clock.now)
        clock.now += back
        if is_answered and not lease.is_over:
            lease.answered(sent)
    while not sightings.look({"job": Beat(fence=1, beat=number)}, now=begun + clock.now):
        clock.now += 0.5
    assert lease.is_over


def test_there_is_time_to_save() -> None:
    clock = Clock()
    lease = Lease(30.0, sent=0.0, now=lambda: clock.now)
    for clock.now, expected in ((19.9, (False, False)), (20.0, (True, False)), (30.0, (True, True))):
        assert (lease.is_ending, lease.is_over) == expected
    lease.answered(25.0)
    lease.answered(12.0)  # an older word whose answer came late
    assert (lease.silence, lease.is_ending) == (5.0, False)


def test_training_waits_until_users_have_not_waited_for_a_while() -> None:
    tokens = FirstTokens(0.5, calm_seconds=5.0)
    looks = [(10, 10, 0), (10.3, 11, 1), (12.3, 13, 2), (12.3, 13, 4), (12.4, 14, 6), (12.4, 14, 7), (14.4, 15, 8)]
    assert [tokens.look(total, count, now=now) for total, count, now in looks] == [False] * 2 + [True] * 3 + [
        False,
        True,
    ]
    assert tokens.seconds == pytest.approx(2.0)


def test_a_worker_needs_no_torch() -> None:
    """It starts at once, and its memory is its child's."""
    code = "import sys; import graft.training.worker.supervising.started; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_server_that_says_nothing_holds_nobody_up() -> None:
    text = 'graft_time_to_first_token_seconds_bucket{{le="1.0"}} 3.0\ngraft_time_to_first_token_seconds_count {}\n'
    text += "graft_time_to_first_token_seconds_sum {}\n"
    assert first_tokens(text.format(4.0, 2.5)) == (2.5, 4.0)
    said = [text.format(1, 1), text.format(2, 9), "nothing"]
    yielding = Yielding("http://localhost:1", bound_seconds=1.0, read=lambda url: said.pop(0))
    found = []
    for _ in range(3):
        yielding.look()
        found.append(yielding.is_asked)
    assert found == [False, True, False]
