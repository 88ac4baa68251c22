"""Reading a JSON body from a caller who may send too much, too slowly, or nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request

from graft.server.api.http.sse import ClientGone
from graft.server.errors import BadInput, DeadlineExceeded, TooLarge, UnsupportedEncoding, Violation
from graft.server.runtime.json_values import BadJson, read_json

_READ_SECONDS = 30.0


async def read_body(request: Request, *, max_bytes: int, take: Callable[[int], None] = lambda num_bytes: None) -> bytes:
    """The body; `take` hears of its bytes before they are kept, and may refuse them.

    Raises `UnsupportedEncoding`, `TooLarge`, `DeadlineExceeded` after 30 s of reading, or `ClientGone`.
    """
    _check_encoding(",".join(request.headers.getlist("content-encoding")))
    try:
        async with asyncio.timeout(_READ_SECONDS):
            return await _read(request, max_bytes, take)
    except ClientDisconnect:
        raise ClientGone from None
    except TimeoutError:
        raise DeadlineExceeded(f"the request's body did not arrive within {_READ_SECONDS:g} s") from None


def json_object(raw: bytes) -> dict[str, Any]:
    """A body as the JSON object that it must be. Raises `BadInput`."""
    try:
        body = read_json(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _bad("is not UTF-8") from None
    except BadJson as error:
        raise _bad(str(error)) from None
    if not isinstance(body, dict):
        raise _bad("must be a JSON object")
    return body


def _check_encoding(header: str) -> None:
    codings = [coding.strip() for coding in header.split(",")]
    unread = next((coding for coding in codings if coding.lower() not in ("", "identity")), None)
    if unread is not None:
        remedy = "send it as it is, without that header"
        raise UnsupportedEncoding(f"content-encoding: the body is said to be `{unread[:40]}`, not read here; {remedy}")


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


def _bad(problem: str) -> BadInput:
    return BadInput(Violation(field="body", problem=problem))
