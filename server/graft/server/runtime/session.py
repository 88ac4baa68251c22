"""Which conversation or user a request belongs to, as its caller says: all of these are answered by one version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

HEADER = "x-graft-session"
"""Carries the session's name, over both fronts."""
FIELDS = ("safety_identifier", "user", "prompt_cache_key")
"""OpenAI's fields that name one, the first that is there, where the header does not."""
_MAX_CHARACTERS = 1_000
_current: ContextVar[str] = ContextVar("session", default="")


@contextmanager
def in_session(name: str | None) -> Iterator[None]:
    """Within, the request belongs to the session of this name; to none where there is none."""
    token = _current.set((name or "")[:_MAX_CHARACTERS])
    try:
        yield
    finally:
        _current.reset(token)


def in_session_of(body: Mapping[str, Any]) -> None:
    """From now on in this request: the session that its body names, unless its header named one."""
    if not _current.get():
        named = (body.get(field) for field in FIELDS)
        _current.set(next((one[:_MAX_CHARACTERS] for one in named if isinstance(one, str) and one), ""))


def current_session() -> str:
    """The session's name; empty where the request belongs to none."""
    return _current.get()
