"""No job is held twice, whatever servers and workers do (fault F16; `test_catalog` moves the wall clock)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.server.errors import LeaseLost
from graft.server.jobs.policy.lease import Beat, Sightings, Term, check_fence

TERM = Term(worker_seconds=10)
JOB = "job"


@dataclass
class Row:
    """The job's row, of which there is one for all servers."""

    worker: int | None = None
    fence: int = 0
    beat: int = 0


@dataclass
class Worker:
    """Believes to hold the job until the lease is over that its last answered word was sent for."""

    name: int
    fence: int = 0
    sent: float = float("-inf")

    def holds(self, now: float) -> bool:
        return self.fence > 0 and now - self.sent < TERM.worker_seconds


@dataclass
class World:
    """True time, two servers with monotonic clocks that begin somewhere, three workers; words may be late."""

    now: float = 0.0
    row: Row = field(default_factory=Row)
    workers: list[Worker] = field(default_factory=lambda: [Worker(one) for one in range(3)])
    servers: list[Sightings] = field(default_factory=lambda: [Sightings(TERM), Sightings(TERM)])
    zeros: list[float] = field(default_factory=lambda: [0.0, 1e6])
    num_claims: int = 0

    def claim(self, worker: Worker, delay: float) -> None:
        if self.row.worker is None:
            sent = self.now
            self.now += delay
            self.row = Row(worker=worker.name, fence=self.row.fence + 1)
            worker.fence, worker.sent = self.row.fence, sent
            self.num_claims += 1

    def beat(self, worker: Worker, delay: float, *, answered: bool) -> None:
        sent = self.now
        self.now += delay
        try:
            check_fence(JOB, fence=worker.fence, holds=self.row.worker is not None, current=self.row.fence)
        except LeaseLost:
            worker.fence = 0
            return
        self.row.beat += 1
        if answered:
            worker.sent = sent

    def look(self, server: int) -> None:
        held = {} if self.row.worker is None else {JOB: Beat(fence=self.row.fence, beat=self.row.beat)}
        for seen in self.servers[server].look(held, now=self.now + self.zeros[server]).values():
            if (seen.fence, seen.beat) == (self.row.fence, self.row.beat):
                self.row = Row(fence=self.row.fence)

    def passes(self, seconds: float) -> None:
        """Both servers look as often as they do."""
        end = self.now + seconds
        while True:
            self.look(0)
            self.look(1)
            if self.now >= end:
                return
            self.now = min(end, self.now + TERM.look_seconds)

    def restart(self, server: int, zero: float) -> None:
        self.servers[server], self.zeros[server] = Sightings(TERM), zero


acts = st.tuples(
    st.sampled_from(["claim", "claim", "beat", "silent beat", "pass", "pass", "pass", "sleep", "restart"]),
    st.integers(0, 2),
    st.sampled_from([0.0, 1.0, 3.0, 6.0, 9.0, 16.0]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(acts, min_size=15, max_size=50))
def test_no_two_workers_believe_to_hold_the_job_at_once(script: list[tuple[str, int, float]]) -> None:
    world = World()
    for act, who, amount in script:
        worker = world.workers[who]
        match act:
            case "claim":
                world.claim(worker, amount / 4)
            case "beat" | "silent beat":
                if worker.fence:
                    world.beat(worker, amount / 4, answered=act == "beat")
            case "pass":
                world.passes(amount)
            case "restart":
                world.restart(who % 2, amount * 1e5)
            case "sleep":
                world.now += amount
        assert sum(one.holds(world.now) for one in world.workers) <= 1


def test_a_worker_that_is_gone_is_given_up_and_one_that_speaks_is_not() -> None:
    sightings, beat = Sightings(TERM), Beat(fence=1, beat=0)
    for second in range(15):
        assert sightings.look({JOB: beat}, now=second) == {}
    assert sightings.look({JOB: beat}, now=15) == {JOB: beat}
    assert sightings.look({JOB: Beat(fence=1, beat=1)}, now=16) == {}, "it spoke meanwhile"
    assert sightings.look({}, now=40) == {} and sightings.look({JOB: beat}, now=41) == {}, "it was away meanwhile"


def test_a_server_that_began_now_waits_a_whole_term() -> None:
    beat = Beat(fence=3, beat=9)
    assert Sightings(TERM).look({JOB: beat}, now=1e9) == {}


@pytest.mark.parametrize(("fence", "holds"), [(1, True), (3, True), (2, False)])
def test_another_claims_worker_is_refused(fence: int, holds: bool) -> None:
    with pytest.raises(LeaseLost, match="stop working"):
        check_fence(JOB, fence=fence, holds=holds, current=2)
    check_fence(JOB, fence=2, holds=True, current=2)
