"""Server-sent events, and callers who leave or do not read."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from starlette.types import Receive, Send

from graft.server.errors import SlowReader
from graft.server.runtime.json_values import json_text

T = TypeVar("T")
Frame = dict[str, Any]


class ClientGone(Exception):
    """The caller closed the connection."""


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` and cancel it when the caller closes the connection, then raise `ClientGone`.

    The request's body must have been read: what arrives afterwards is only the end.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream:
    """Writes frames one by one; the next is not asked for before the caller's connection has taken the last.

    So a slow reader holds up nobody and no frames pile up; one that takes nothing for `write_seconds` is let go.
    """

    def __init__(self, send: Send, *, headers: Mapping[str, str], write_seconds: float) -> None:
        self._send = send
        self._headers = headers
        self._write_seconds = write_seconds

    async def start(self) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **self._headers}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._within({"type": "http.response.start", "status": 200, "headers": raw})

    async def frame(self, frame: Frame) -> None:
        await self._body(f"data: {json_text(frame)}\n\n".encode(), more=True)

    async def event(self, frame: Frame) -> None:
        """A frame under the name of its `type`."""
        await self._body(f"event: {frame['type']}\ndata: {json_text(frame)}\n\n".encode(), more=True)

    async def close(self) -> None:
        """The end of events, of which the last says how it ended."""
        await self._body(b"", more=False)

    async def end(self, *, complete: bool) -> None:
        """`[DONE]` stands only behind a complete stream."""
        await self._body(b"data: [DONE]\n\n" if complete else b"", more=False)

    async def _body(self, data: bytes, *, more: bool) -> None:
        await self._within({"type": "http.response.body", "body": data, "more_body": more})

    async def _within(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._write_seconds):
                await self._send(message)
        except TimeoutError:
            raise SlowReader(f"the caller read nothing for {self._write_seconds:g} s") from None
