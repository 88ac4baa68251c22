"""The asyncio client's connection: how calls, uploads and streams go over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from graft.client import channel, errors, operation, upload

Out = TypeVar("Out")
Item = TypeVar("Item")
Reply = TypeVar("Reply", bound=Message)


class AsyncWire:
    """A connection to a server; a context manager. Every call may raise `GraftClientError`."""

    def __init__(
        self,
        target: str,
        *,
        timeout: float = 120.0,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Raises ValueError for a token that is none."""
        self.target = target
        self.timeout = timeout
        self._metadata = channel.metadata(token)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, options=channel.options())
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, options=channel.options())
        self._uploads = channel.blocking(target, credentials)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; running calls are cancelled."""
        self._uploads.close()
        await self._channel.close()

    def _limit(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    async def _call(self, op: operation.Operation[Out], timeout: float | None = None) -> Out:
        call = self._channel.unary_unary(
            op.path, request_serializer=type(op.request).SerializeToString, response_deserializer=op.response.FromString
        )
        try:
            return op.read(await call(op.request, timeout=self._limit(timeout), metadata=self._metadata))
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None

    async def _pages(
        self, page: Callable[[str], operation.Operation[tuple[list[Item], str]]], limit: int | None = None
    ) -> list[Item]:
        """What stands on all pages, or its first `limit`."""
        items, token = await self._call(page(""))
        while token and (limit is None or len(items) < limit):
            more, token = await self._call(page(token))
            items += more
        return items[:limit]

    async def _upload(
        self, method: str, messages: Iterator[Message], response: type[Reply], timeout: float | None
    ) -> Reply:
        """Send from a thread of gRPC's.

        On the loop, files' bytes would be read between its callers' tokens, and gRPC's asyncio API forgets what a
        server refuses while it is still sending (grpc/grpc#36066).
        """
        call = self._uploads.stream_unary(
            method, request_serializer=upload.to_bytes, response_deserializer=response.FromString
        ).future(messages, timeout=self._limit(timeout), metadata=self._metadata)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(ended.set)

        call.add_done_callback(end)
        try:
            await ended.wait()
            answered: Reply = call.result()
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        finally:
            call.cancel()
        return answered

    async def _responses(
        self, method: str, message: Message, response: type[Reply], timeout: float | None
    ) -> AsyncGenerator[Reply, None]:
        open_stream = self._channel.unary_stream(
            method, request_serializer=type(message).SerializeToString, response_deserializer=response.FromString
        )
        call = open_stream(message, timeout=self._limit(timeout), metadata=self._metadata)
        try:
            async for one in call:
                yield one
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        finally:
            call.cancel()
