"""JSON as it goes over the wire: UTF-8, without characters that line-wise readers take for the end of a line."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse

# Inside JSON these stand in strings only, where they may be written as escapes. Python's `str.splitlines` ends a line
# at each, and JavaScript before 2019 at the first two; the others that do are control characters, escaped by JSON.
_LINE_ENDS = {ord(one): f"\\u{ord(one):04x}" for one in "\u2028\u2029\u0085"}


def json_text(value: Any) -> str:
    """Compact JSON in one line, whoever splits it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text if text.isascii() else text.translate(_LINE_ENDS)


class JsonResponse(JSONResponse):
    """A JSON body."""

    def render(self, content: Any) -> bytes:
        return json_text(content).encode()
