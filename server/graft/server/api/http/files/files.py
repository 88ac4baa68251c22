"""`/v1/files` in OpenAI's words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from graft.server.api.http.body import JsonResponse
from graft.server.api.http.files.form import FILE_FIELD, read_form
from graft.server.api.http.prompts.fields import query_of
from graft.server.errors import SlowReader
from graft.server.files.draft import FileDraft, read_draft, read_purpose
from graft.server.files.file import File
from graft.server.files.files import Files
from graft.server.files.reads import Listing
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations, shown

MAX_LISTED = 10_000
"""OpenAI's largest page of files, and its usual one."""
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_FORM = ("purpose", _ANCHOR, _SECONDS)
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class FileRoutes:
    """Each method answers one route. Errors are raised as they are: the front turns them into OpenAI's object."""

    files: Files
    max_bytes: int
    write_seconds: float

    def routes(self) -> list[Route]:
        """The paths of files."""
        return [
            Route("/v1/files", self.list, methods=["GET"]),
            Route("/v1/files", self.create, methods=["POST"]),
            Route("/v1/files/{file}", self.get, methods=["GET"]),
            Route("/v1/files/{file}", self.delete, methods=["DELETE"]),
            Route("/v1/files/{file}/content", self.content, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """`POST /v1/files`: a form with `file`, `purpose` and perhaps `expires_after`."""
        async with self.files.begin() as incoming:
            form = await read_form(request, incoming.write, max_bytes=self.max_bytes)
            draft = _draft(form.texts, form.filename)
            return JsonResponse(file_object(await incoming.keep(draft, tenant=current_tenant())))

    async def list(self, request: Request) -> Response:
        """`GET /v1/files`, newest first unless `order=asc`, in pages of `limit` behind the id `after`."""
        violations = Violations()
        query = query_of(request, ("after", "limit", "order", "purpose"), violations)
        limit = query.number("limit", default=MAX_LISTED, high=MAX_LISTED)
        order = query.text("order") or "desc"
        if order not in ("asc", "desc"):
            violations.add("order", f"is {shown(order)}; it is asc or desc")
        violations.raise_any()
        listing = Listing(
            limit=limit,
            after=query.text("after") or None,
            newest_first=order == "desc",
            purpose=read_purpose(query.text("purpose")),
        )
        found, has_more = await self.files.listed(current_tenant(), listing)
        data = [file_object(one) for one in found]
        ids = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        return JsonResponse({"object": "list", "data": data, **ids, "has_more": has_more})

    async def get(self, request: Request) -> Response:
        """`GET /v1/files/{file}`."""
        return JsonResponse(file_object(await self.files.get(current_tenant(), request.path_params["file"])))

    async def delete(self, request: Request) -> Response:
        """`DELETE /v1/files/{file}`: refused while a job uses it."""
        file = request.path_params["file"]
        await self.files.delete(current_tenant(), file, request_id=None)
        return JsonResponse({"id": file, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        """`GET /v1/files/{file}/content`: its bytes, compared with its digest before the first is sent."""
        file, content = await self.files.open(current_tenant(), request.path_params["file"])
        return _Content(content, size_bytes=file.size_bytes, write_seconds=self.write_seconds)


def file_object(file: File) -> dict[str, Any]:
    """OpenAI's `FileObject`; what stands there was stored whole, hence `processed`."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.create_time.timestamp()),
        "expires_at": None if file.expire_time is None else int(file.expire_time.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose.value,
        "status": "processed",
        "status_details": None,
    }


def _draft(texts: Mapping[str, str], filename: str | None) -> FileDraft:
    violations = Violations()
    for name in violations.until_full(name for name in texts if name not in _FORM):
        violations.add(name[:40], f"is not known here; there are {FILE_FIELD}, {', '.join(_FORM)}")
    if filename is None:
        violations.add(FILE_FIELD, "is missing")
    anchor, seconds = texts.get(_ANCHOR), texts.get(_SECONDS)
    if anchor not in (None, "created_at"):
        violations.add("expires_after.anchor", f"is {shown(anchor)}; it is created_at")
    if (anchor is None) != (seconds is None):
        missing = "anchor" if anchor is None else "seconds"
        violations.add(f"expires_after.{missing}", "is missing: give both, anchor and seconds")
    if seconds is not None and not (seconds.isascii() and seconds.isdigit() and len(seconds) < 10):
        violations.add("expires_after.seconds", f"is {shown(seconds)}; it must be a whole number of seconds")
    violations.raise_any()
    return read_draft(
        purpose=texts.get("purpose", ""),
        filename=filename or "",
        expires_after_seconds=None if seconds is None else int(seconds),
    )


class _Content(Response):
    """A file's bytes; a caller that takes nothing for `write_seconds` is let go. Closes the file."""

    def __init__(self, content: IO[bytes], *, size_bytes: int, write_seconds: float) -> None:
        headers = {"content-type": "application/octet-stream", "content-length": str(size_bytes)}
        super().__init__(headers=headers)
        self._content = content
        self._write_seconds = write_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._content as content:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while data := await asyncio.to_thread(content.read, _CHUNK_BYTES):
                await self._send(send, data, more=True)
            await self._send(send, b"", more=False)

    async def _send(self, send: Send, data: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(self._write_seconds):
                await send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError:
            raise SlowReader(f"the caller read nothing for {self._write_seconds:g} s") from None
