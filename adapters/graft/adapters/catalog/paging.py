"""Pages of a list and their opaque tokens (AIP-158)."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from graft.adapters.errors import InvalidReference, Reason

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Item]):
    """A part of a list; `next_page_token` is None on the last page."""

    items: tuple[Item, ...]
    next_page_token: str | None = None


def page_limit(page_size: int | None) -> int:
    """The number of items to read; None and 0 mean the default. Raises InvalidReference below 0."""
    if page_size is not None and page_size < 0:
        problem = f"{page_size} is negative; give 1 to {MAX_PAGE_SIZE}"
        raise InvalidReference("invalid page size", [Reason(field="page_size", problem=problem)])
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def write_token(scope: Sequence[str], last: str | int) -> str:
    """A token that continues the list `scope` after the item `last`."""
    return base64.urlsafe_b64encode(json.dumps([*scope, last]).encode()).decode().rstrip("=")


def read_token(scope: Sequence[str], token: str | None, kind: type[Item]) -> Item | None:
    """The item that the token continues after; None without a token.

    Raises InvalidReference for a token of another list or none of ours.
    """
    if not token:
        return None
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        last = content[-1]
        fits = content[:-1] == list(scope) and isinstance(last, kind)
    except (ValueError, TypeError, LookupError, RecursionError):
        fits = False
    if not fits:
        problem = "is not a token that this list gave; begin again without one"
        raise InvalidReference("invalid page token", [Reason(field="page_token", problem=problem)])
    assert isinstance(last, kind)
    return last
