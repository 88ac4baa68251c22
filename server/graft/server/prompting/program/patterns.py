"""Regular expressions that users bring, in RE2's syntax: matching takes time linear in the text, whatever they say."""

from __future__ import annotations

from typing import Any

import re2

MAX_CHARACTERS = 2_000
_MAX_MEMORY_BYTES = 4 << 20


def compiled(pattern: str) -> Any:
    """The pattern for RE2. Raises ValueError with what is wrong."""
    if len(pattern) > MAX_CHARACTERS:
        raise ValueError(f"has {len(pattern)} characters; the limit is {MAX_CHARACTERS}")
    options = re2.Options()
    options.max_mem, options.log_errors = _MAX_MEMORY_BYTES, False
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        told = error.args[0] if error.args else error
        problem = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
        raise ValueError(f"is no regular expression in RE2's syntax: {problem[:200]}") from None
