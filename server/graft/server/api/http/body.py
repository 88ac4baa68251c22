"""JSON bodies: read from a caller who may send too much, too slowly, or nonsense; and written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from graft.server.api.http.sse import ClientGone
from graft.server.errors import BadInput, DeadlineExceeded, Overloaded, TooLarge, UnsupportedEncoding, Violation
from graft.server.runtime.json_values import BadJson, json_text, read_json

_READ_SECONDS = 30.0
_RETRY_SECONDS = 1.0


class BodyBudget:
    """At most so many bytes in the bodies of all requests under way, since each alone may be large."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """One request's share, taken as its body comes and given back with the request. Taking raises `Overloaded`."""
        taken = 0

        def take(num_bytes: int) -> None:
            nonlocal taken
            if self.num_bytes + num_bytes > self._max_bytes:
                raise Overloaded(
                    f"the bodies of requests under way take {self.num_bytes} bytes and {self._max_bytes} is the limit: "
                    "try again later",
                    retry_after_seconds=_RETRY_SECONDS,
                )
            self.num_bytes += num_bytes
            taken += num_bytes

        try:
            yield take
        finally:
            self.num_bytes -= taken


async def read_body(request: Request, *, max_bytes: int, take: Callable[[int], None]) -> bytes:
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


class JsonResponse(JSONResponse):
    """A JSON body, as `json_text` writes it."""

    def render(self, content: Any) -> bytes:
        return json_text(content).encode()


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
