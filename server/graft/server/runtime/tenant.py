"""For which tenant something is done: said where a request comes in, and read by what looks things up or shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from graft.server.errors import Forbidden


@dataclass(frozen=True, kw_only=True)
class ActingJob:
    """A job for which a worker does something: it may write to this adapter of the job's tenant. Where the job has a
    gate, that alone moves the adapter's aliases.
    """

    id: str
    adapter: str
    has_gate: bool


_current: ContextVar[str] = ContextVar("tenant")
_job: ContextVar[ActingJob | None] = ContextVar("job", default=None)


@contextmanager
def on_behalf_of(tenant: str, job: ActingJob | None = None) -> Iterator[None]:
    """Within, the current tenant is this one; `job` where a worker acts for one of the tenant's."""
    tenant_token, job_token = _current.set(tenant), _job.set(job)
    try:
        yield
    finally:
        _job.reset(job_token)
        _current.reset(tenant_token)


def acting_job() -> ActingJob | None:
    """The job for which a worker asks; None where a tenant's caller does."""
    return _job.get()


def check_own_adapter(adapter: str) -> None:
    """That a worker that acts for a job writes to the job's adapter. Raises `Forbidden`."""
    job = _job.get()
    if job is not None and adapter != job.adapter:
        raise Forbidden(f"{job.id} writes to the adapter {job.adapter}, not to {adapter[:100]!r}: see Job.adapter")


def check_may_point(adapter: str) -> None:
    """That no worker moves an alias where its job has a gate. Raises `Forbidden`, as `check_own_adapter` does too."""
    check_own_adapter(adapter)
    job = _job.get()
    if job is not None and job.has_gate:
        raise Forbidden(f"{job.id} has a gate, which alone moves the aliases of {adapter}: ask DecideRollout")


def current_tenant() -> str:
    """The tenant of the request that this is done for. Raises LookupError where it is done for none."""
    return _current.get()


def current_tenant_or_none() -> str | None:
    """None where it is done for no request."""
    return _current.get(None)
