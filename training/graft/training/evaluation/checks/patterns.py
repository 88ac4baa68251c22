"""Regular expressions of files: RE2's, which match in a time linear in the text."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

MAX_CHARACTERS = 64 << 10
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


class BadPattern(ValueError):
    """What is wrong with a pattern."""


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """The pattern, with ``search``, ``findall`` and ``sub``. Raises ``BadPattern``."""
    if len(pattern) > MAX_CHARACTERS:
        raise BadPattern(f"a pattern has {MAX_CHARACTERS} characters at most, this one {len(pattern)}.")
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        told = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise BadPattern(f"`{pattern[:60]}` is no regular expression of RE2: {told}.") from None
