"""For which tenant something is done: said where a request comes in, and read by what looks things up or shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[str] = ContextVar("tenant")


@contextmanager
def on_behalf_of(tenant: str) -> Iterator[None]:
    """Within, the current tenant is this one."""
    token = _current.set(tenant)
    try:
        yield
    finally:
        _current.reset(token)


def current_tenant() -> str:
    """The tenant of the request that this is done for. Raises LookupError where it is done for none."""
    return _current.get()


def current_tenant_or_none() -> str | None:
    """None where it is done for no request."""
    return _current.get(None)
