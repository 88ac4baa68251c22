"""200 jobs of four tenants, queued tenant by tenant, begin and end in fair order, on a real server and two real
workers, whose trainings are stand-ins that end at once.

What is fair is said here anew, slowly: whoever was charged least is next, and whose oldest job is older where two were
charged the same (DECISIONS, "Jobs wait in start-time fair queueing"). That needs no virtual time, for nobody was idle.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path

import pytest

from tests.adapters.making import make_base
from tests.training.worker.killing.running import Machine, User, machine, until

pytestmark = pytest.mark.slow  # a child process for each job

NUM_JOBS = {"ann": 80, "bob": 60, "cat": 40, "dan": 20}
EPOCHS = {"ann": 1, "bob": 2, "cat": 1, "dan": 1}
"""The files are alike: a job of bob's costs what two of the others' cost."""
ROWS = b'{"prompt": "a", "completion": "b"}\n'


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A job as its tenant asked for it; `number` counts all of them in their order."""

    number: int
    tenant: str
    priority: int
    cost: int
    id: str


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Machine]:
    base = make_base(tmp_path / "bases" / "tiny").path
    tenants = tmp_path / "tenants.json"
    tenants.write_text(json.dumps({f"of-{name}": name for name in (*NUM_JOBS, "work")}))
    settings = {
        "tenants_file": str(tenants),
        "worker_tenant": "work",
        "moves_clock": False,
        "worker_silence_seconds": 60.0,
    }
    with machine(tmp_path, base, **settings) as made:
        made.environment["GRAFT_TOKEN"] = "of-work"
        made.start_server()
        yield made


@pytest.fixture
def users(running: Machine) -> Iterator[dict[str, User]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(User(running.target, token=f"of-{name}")) for name in NUM_JOBS}


def test_they_end_in_fair_order(running: Machine, users: dict[str, User]) -> None:
    asked = queued(users)
    for name in ("one", "two"):
        running.start_worker(name, folder=name)
    begun, ended = moments(users, asked)
    in_order = sorted(asked, key=lambda job: begun[job.id])
    assert [job.id for job in in_order] == [job.id for job in fair_order(asked)]
    check_no_tenant_is_ahead(asked, begun, ended)


def queued(users: dict[str, User]) -> list[Asked]:
    """All jobs of one tenant, then all of the next, each of some priority; none is begun."""
    chance, asked = random.Random(200), list[Asked]()
    for tenant, user in users.items():
        file = user.upload_file(ROWS, filename="rows.jsonl").id
        for _ in range(NUM_JOBS[tenant]):
            priority = chance.choice((-3, 0, 0, 7))
            job = user.create_job(
                file,
                model="tiny",
                suffix="short",
                priority=priority,
                hyperparameters={"n_epochs": EPOCHS[tenant]},
            )
            cost = len(ROWS) * EPOCHS[tenant]
            asked.append(Asked(number=len(asked), tenant=tenant, priority=priority, cost=cost, id=job.id))
    for tenant, user in users.items():
        until(lambda user=user, num=NUM_JOBS[tenant]: len(user.jobs(state="queued")) == num)  # type: ignore[misc]
    return asked


def moments(users: dict[str, User], asked: Sequence[Asked]) -> tuple[dict[str, datetime], dict[str, datetime]]:
    """When each job was begun, once, and when it had succeeded, by the server, which writes one after another."""
    begun, ended = {}, {}
    for job in asked:
        events = list(users[job.tenant].watch_job(job.id))
        (began,) = [one for one in events if one.message == "A worker began"]
        assert events[-1].message == "The job has succeeded", [one.message for one in events]
        begun[job.id], ended[job.id] = began.create_time.ToDatetime(), events[-1].create_time.ToDatetime()
    return begun, ended


def fair_order(asked: Sequence[Asked]) -> list[Asked]:
    """Tenants take turns by what they were charged; each tenant's own go by priority, and then by age."""
    waiting, charged, order = list(asked), dict.fromkeys(NUM_JOBS, 0), list[Asked]()
    while waiting:
        least = min(charged[job.tenant] for job in waiting)
        tenant = next(job.tenant for job in waiting if charged[job.tenant] == least)
        own = [job for job in waiting if job.tenant == tenant]
        job = max(own, key=lambda one: (one.priority, -one.number))
        waiting.remove(job)
        charged[tenant] += job.cost
        order.append(job)
    return order


def check_no_tenant_is_ahead(asked: Sequence[Asked], begun: dict[str, datetime], ended: dict[str, datetime]) -> None:
    """Whenever a job ends: of two tenants that wait both, neither has had more than the other by more than a job of
    each, as Theorem 1 of Goyal et al. (1996) has it. Of equal jobs these are two.
    """
    cost = {job.tenant: job.cost for job in asked}
    last_begin = {name: max(begun[job.id] for job in asked if job.tenant == name) for name in cost}
    for now in sorted(ended.values()):
        served = dict.fromkeys(cost, 0)
        for job in asked:
            served[job.tenant] += job.cost if ended[job.id] <= now else 0
        for one, other in combinations([name for name in cost if now < last_begin[name]], 2):
            assert abs(served[one] - served[other]) <= cost[one] + cost[other], (now, served)
