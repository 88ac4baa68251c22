"""What a request is called: in its reply, in headers and trailers, and in every line that is logged on its way."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = "x-request-id"
_USABLE = re.compile(r"[\w.:/+=-]{1,128}\Z", re.ASCII)
_current: ContextVar[str] = ContextVar("request_id", default="")


@contextmanager
def named(given: str | None) -> Iterator[str]:
    """Within, the request is called what its caller calls it, where that can be a name, else by a new one."""
    name = given if given and _USABLE.match(given) else f"req-{uuid.uuid4().hex}"
    token = _current.set(name)
    try:
        yield name
    finally:
        _current.reset(token)


def current_request_id() -> str:
    """The name of the request that this is done for; empty where it is done for none."""
    return _current.get()
