"""Whose job is next: tenants share the workers, and each orders its own jobs by priority.

Start-time fair queueing (Goyal, Vin, Cheng, "Start-time Fair Queuing", SIGCOMM 1996): a tenant's next job starts, in
virtual time, when its last one finishes or now, whichever is later; the least start is next, and finishes by its cost
later. Two tenants that have jobs waiting all the time are thus served alike up to one job of each (their theorem 1),
whatever the jobs' sizes, and nobody saves up credit while idle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A job in the queue. `cost` is 0 where it was charged before; ids sort as they were made, by servers' clocks."""

    id: str
    tenant: str
    priority: int
    cost: float


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Virtual time, and when in it each tenant's last job finishes."""

    time: float = 0.0
    finishes: Mapping[str, float] = field(default_factory=dict)

    def start(self, tenant: str) -> float:
        """When, in virtual time, the tenant's next job starts."""
        return max(self.time, self.finishes.get(tenant, 0.0))

    def charged(self, job: Waiting) -> Shares:
        """After `job` has begun."""
        start = self.start(job.tenant)
        return replace(self, time=start, finishes={**self.finishes, job.tenant: start + job.cost})


def next_job(waiting: Iterable[Waiting], shares: Shares) -> Waiting | None:
    """The least served tenant's job with the highest priority, the oldest of these; None where none waits."""

    def order(job: Waiting) -> tuple[float, int, str]:
        return shares.start(job.tenant), -job.priority, job.id

    # A tenant first, by its oldest job among equals: priorities are compared within a tenant only.
    first = min(waiting := list(waiting), key=lambda job: (shares.start(job.tenant), job.id), default=None)
    return None if first is None else min((job for job in waiting if job.tenant == first.tenant), key=order)
