"""JSON in both directions.

What a caller wrote, as values that can be handed on: whole characters, finite numbers, not too many digits. And values
as they go over the wire: UTF-8, without characters that line-wise readers take for the end of a line.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_MAX_DIGITS = 1_000
# Inside JSON these stand in strings only, where they may be written as escapes. Python's `str.splitlines` ends a line
# at each, and JavaScript before 2019 at the first two; the others that do are control characters, escaped by JSON.
_LINE_ENDS = {ord(one): f"\\u{ord(one):04x}" for one in "\u2028\u2029\u0085"}


class BadJson(ValueError):
    """A text that is no JSON, or holds what no field can: the problem, in one line."""


def read_json(text: str) -> Any:
    """The value of a JSON text. Raises `BadJson`."""
    try:
        value = json.loads(text, parse_constant=_not_finite, parse_float=_finite, parse_int=_integer)
        _check_characters(text, value)
    except BadJson:
        raise
    except UnicodeEncodeError:
        raise BadJson(r"holds a lone surrogate (\ud800–\udfff), which is no text") from None
    except RecursionError:
        raise BadJson("is nested too deeply") from None
    except ValueError as error:
        raise BadJson(f"is not JSON: {str(error)[:100]}") from None
    return value


def json_text(value: Any) -> str:
    """Compact JSON in one line, whoever splits it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text if text.isascii() else text.translate(_LINE_ENDS)


def _check_characters(text: str, value: Any) -> None:
    """Halves of a surrogate pair stand in a text as they are, or come of its escapes."""
    text.encode()
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _integer(text: str) -> int:
    """No field holds so many digits, and Python reads no more than 4,300."""
    if len(text) > _MAX_DIGITS:
        digits = len(text.lstrip("-"))
        raise BadJson(f"holds the integer {text[:20]}…, of {digits} digits; at most {_MAX_DIGITS} are read")
    return int(text)


def _not_finite(text: str) -> NoReturn:
    raise BadJson(f"holds {text[:40]}, which is not a finite number")
