"""Text in HTTP headers, which take visible ASCII."""

from __future__ import annotations

import string
from urllib.parse import quote

_AS_IT_IS = "".join(sorted(set(string.punctuation + " ") - {"%"}))


def header_text(text: str) -> str:
    """`text`, with all that a header cannot hold percent-encoded as UTF-8 (RFC 3986); `%` too, so it can be undone."""
    return quote(text, safe=_AS_IT_IS, errors="replace")
