"""What a base's chat template refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jinja2

from graft.server.engine.engine import InvalidRequest

# What a template fails with on a value: a division by 0, a vast range, a name that is not there, a list within itself.
_RECKONING = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What a template raises about a chat, or about a caller's variables that it reckons with, as `InvalidRequest`."""
    try:
        yield
    except (jinja2.TemplateError, *_RECKONING) as error:
        reason = str(error) or "it needs more memory than there is"
        raise InvalidRequest(f"the base's chat template refuses this chat: {reason}") from error
