"""What calls have in common: a request's id; an upload's header that declares files, then their bytes in chunks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from graft.server.api.grpc.types import Context
from graft.server.errors import BadInput, Violation
from graft.server.registry.accepted import DeclaredFile
from graft.v1 import adapter_pb2, base_pb2, file_pb2

_MAX_REQUEST_ID_CHARACTERS = 128
# How much of an upload that was refused is still read, and for how long.
_REFUSED_BYTES = 64 << 20
_REFUSED_SECONDS = 5.0
_Part = TypeVar("_Part", adapter_pb2.UploadVersionRequest, base_pb2.UploadBaseRequest)
_Message = TypeVar("_Message", adapter_pb2.UploadVersionRequest, base_pb2.UploadBaseRequest, file_pb2.UploadFileRequest)


async def begin(messages: AsyncIterator[_Part]) -> tuple[_Part, AsyncIterator[tuple[str, bytes]]]:
    """The message that holds the header, and the file names and bytes of those after it."""
    first, parts = await headed(messages)
    return first, _chunks(parts)


async def headed(messages: AsyncIterator[_Message]) -> tuple[_Message, AsyncIterator[_Message]]:
    """The message that holds the header, and those after it."""
    parts = aiter(messages)
    first = await anext(parts, None)
    if first is None or first.WhichOneof("part") != "header":
        raise _bad("header", "is missing: the first message of an upload is its header")
    return first, parts


def declared(header: adapter_pb2.UploadHeader | base_pb2.UploadBaseHeader) -> list[DeclaredFile]:
    """The files that a header announces."""
    return [DeclaredFile(name=one.name, size_bytes=one.size_bytes, sha256=one.sha256) for one in header.files]


def request_id_of(request: Any) -> str | None:
    """The `request_id` of a call or of an upload's header; None where it is empty. Raises `BadInput`."""
    text: str = request.request_id
    if len(text) > _MAX_REQUEST_ID_CHARACTERS:
        raise _bad("request_id", f"has {len(text)} characters; the limit is {_MAX_REQUEST_ID_CHARACTERS}")
    return text or None


# grpcio's types say what its blocking servers call.
def heard_out(upload: Any) -> Callable[[AsyncIterator[Any], Context], Awaitable[Any]]:
    """`upload`, but one that is refused ends only when its caller has sent all of it.

    Callers on gRPC's asyncio API lose a status that comes while they are sending: they see "Internal error from Core"
    instead (grpc/grpc#36066). What is larger than the limits above is cut short.
    """

    async def run(messages: AsyncIterator[Any], context: Context) -> Any:
        try:
            return await upload(messages, context)
        except Exception:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFUSED_SECONDS):
                    await _read_out(messages)
            raise

    return run


async def _read_out(messages: AsyncIterator[Any]) -> None:
    left = _REFUSED_BYTES
    async for message in messages:
        left -= message.ByteSize()
        if left < 0:
            return


async def _chunks(parts: AsyncIterator[_Part]) -> AsyncIterator[tuple[str, bytes]]:
    async for part in parts:
        if part.WhichOneof("part") != "chunk":
            raise _bad("chunk", "is missing: after the header, every message of an upload is a chunk")
        yield part.chunk.file, part.chunk.data


def _bad(field: str, problem: str) -> BadInput:
    return BadInput(Violation(field=field, problem=problem))
