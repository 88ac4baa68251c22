"""Start-time fair queueing: the paper's bound holds for whatever jobs come, and priorities stay at home."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graft.server.jobs.policy.queue import Shares, Waiting, next_job

TENANTS = "abcd"


def waiting(number: int, tenant: str = "a", priority: int = 0, cost: float = 1.0) -> Waiting:
    return Waiting(id=f"{number:04}", tenant=tenant, priority=priority, cost=cost)


def order(jobs: list[Waiting], shares: Shares | None = None) -> list[Waiting]:
    left, shares, done = list(jobs), shares or Shares(), []
    while (job := next_job(left, shares)) is not None:
        left.remove(job)
        shares = shares.charged(job)
        done.append(job)
    return done


costs = st.lists(st.tuples(st.sampled_from(TENANTS), st.floats(0.1, 100), st.integers(-3, 3)), max_size=16)


@given(costs)
def test_two_tenants_that_wait_all_the_time_differ_by_one_job_of_each(draws: list[tuple[str, float, int]]) -> None:
    """Theorem 1 of Goyal et al.: |W_f - W_m| ≤ l_f + l_m in any interval in which both have jobs waiting."""
    jobs = [waiting(number, *draw[:1], priority=draw[2], cost=draw[1]) for number, draw in enumerate(draws)]
    done = order(jobs)
    assert sorted(job.id for job in done) == [job.id for job in jobs], "every job runs once"
    largest = {one: max((job.cost for job in jobs if job.tenant == one), default=0.0) for one in TENANTS}
    for one in TENANTS:
        for other in TENANTS:
            if one >= other:
                continue
            # Both wait from the beginning until one has no job left.
            last = min(max((n for n, job in enumerate(done) if job.tenant == who), default=-1) for who in (one, other))
            for begin in range(last + 1):
                served = dict.fromkeys(TENANTS, 0.0)
                for job in done[begin : last + 1]:
                    served[job.tenant] += job.cost
                    assert abs(served[one] - served[other]) <= largest[one] + largest[other] + 1e-6


@given(costs)
def test_a_tenants_own_jobs_go_by_priority_and_age(draws: list[tuple[str, float, int]]) -> None:
    jobs = [waiting(number, draw[0], priority=draw[2], cost=draw[1]) for number, draw in enumerate(draws)]
    done = order(jobs)
    for tenant in TENANTS:
        own = [job for job in done if job.tenant == tenant]
        assert own == sorted(own, key=lambda job: (-job.priority, job.id))


@given(st.lists(st.integers(-100, 100), min_size=20, max_size=20))
def test_no_priority_takes_from_another_tenant(priorities: list[int]) -> None:
    jobs = [waiting(n, "ab"[n % 2], priority=p if n % 2 else 0) for n, p in enumerate(priorities)]
    done = [job.tenant for job in order(jobs)]
    assert all(sorted(done[begin : begin + 2]) == ["a", "b"] for begin in range(0, 20, 2))


def test_two_hundred_jobs_of_four_tenants_take_turns() -> None:
    """The first tenant has queued all of its own before the second comes."""
    jobs = [waiting(50 * index + n, tenant) for index, tenant in enumerate(TENANTS) for n in range(50)]
    done = [job.tenant for job in order(jobs)]
    for begin in range(0, 200, 4):
        assert sorted(done[begin : begin + 4]) == list(TENANTS)


def test_who_was_idle_has_saved_nothing_up() -> None:
    shares = Shares()
    for job in (first := [waiting(n, "a") for n in range(100)]):
        shares = shares.charged(job)
    left = [waiting(200 + n, tenant) for n in range(10) for tenant in "ab"]
    assert [job.tenant for job in order(left, shares)].count("b") == len(first) // 10
    assert [job.tenant for job in order(left, shares)[:6]].count("b") <= 4


def test_a_job_that_was_charged_costs_nothing_when_it_waits_again() -> None:
    shares = Shares().charged(waiting(0, "a", cost=5))
    assert shares.charged(waiting(0, "a", cost=0)).finishes == {"a": 5}
