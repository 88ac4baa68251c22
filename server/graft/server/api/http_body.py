"""Reading a JSON body from a caller who may send too much, too slowly, or nonsense."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from graft.server.api.sse import ClientGone
from graft.server.errors import BadInput, DeadlineExceeded, TooLarge, Violation

_READ_SECONDS = 30.0
_MAX_DIGITS = 1_000


async def read_json_object(
    request: Request, *, max_bytes: int, take: Callable[[int], None] = lambda num_bytes: None
) -> dict[str, Any]:
    """The body as a JSON object; `take` hears of its bytes before they are kept, and may refuse them.

    Raises `BadInput`, `TooLarge`, `DeadlineExceeded` after 30 s of reading, or `ClientGone`.
    """
    try:
        async with asyncio.timeout(_READ_SECONDS):
            raw = await _read(request, max_bytes, take)
    except ClientDisconnect:
        raise ClientGone from None
    except TimeoutError:
        raise DeadlineExceeded(f"the request's body did not arrive within {_READ_SECONDS:g} s") from None
    try:
        body = json.loads(raw, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer)
    except UnicodeDecodeError:
        raise _bad("is not UTF-8") from None
    except RecursionError:
        raise _bad("is nested too deeply") from None
    except ValueError as error:
        raise _bad(f"is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise _bad("must be a JSON object")
    if b"\\u" in raw:
        _check_surrogates(body)
    return body


async def _read(request: Request, max_bytes: int, take: Callable[[int], None]) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise TooLarge(f"the body has {announced} bytes; the limit is {max_bytes}")
    parts: list[bytes] = []
    num_bytes = 0
    async for part in request.stream():
        num_bytes += len(part)
        if num_bytes > max_bytes:
            raise TooLarge(f"the body has more than {max_bytes} bytes, the limit")
        take(len(part))
        parts.append(part)
    return b"".join(parts)


def _check_surrogates(body: dict[str, Any]) -> None:
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _bad(r"holds a lone surrogate (\ud800–\udfff), which is no text") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse_constant(text)
    return value


def _integer(text: str) -> int:
    """No field holds so many digits, and Python reads no more than 4,300."""
    if len(text) > _MAX_DIGITS:
        raise _bad(f"holds the integer {text[:20]}…, of {len(text.lstrip('-'))} digits; at most {_MAX_DIGITS} are read")
    return int(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not a finite number")


def _bad(problem: str) -> BadInput:
    return BadInput(Violation(field="body", problem=problem))
