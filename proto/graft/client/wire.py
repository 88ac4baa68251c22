"""The synchronous client's connection: how calls, uploads and streams go over it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from graft.client import channel, errors, operation, upload

Out = TypeVar("Out")
Item = TypeVar("Item")
Reply = TypeVar("Reply", bound=Message)


class Wire:
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
        self._channel = channel.blocking(target, credentials)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; running calls are cancelled."""
        self._channel.close()

    def _limit(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    def _call(self, op: operation.Operation[Out], timeout: float | None = None) -> Out:
        call = self._channel.unary_unary(
            op.path, request_serializer=type(op.request).SerializeToString, response_deserializer=op.response.FromString
        )
        try:
            return op.read(call(op.request, timeout=self._limit(timeout), metadata=self._metadata))
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None

    def _pages(
        self, page: Callable[[str], operation.Operation[tuple[list[Item], str]]], limit: int | None = None
    ) -> list[Item]:
        """What stands on all pages, or its first `limit`."""
        items, token = self._call(page(""))
        while token and (limit is None or len(items) < limit):
            more, token = self._call(page(token))
            items += more
        return items[:limit]

    def _upload(self, method: str, messages: Iterator[Message], response: type[Reply], timeout: float | None) -> Reply:
        call = self._channel.stream_unary(
            method,
            request_serializer=upload.to_bytes,
            response_deserializer=response.FromString,
        )
        try:
            answered: Reply = call(messages, timeout=self._limit(timeout), metadata=self._metadata)
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        return answered

    def _responses(
        self, method: str, message: Message, response: type[Reply], timeout: float | None
    ) -> Generator[Reply, None, None]:
        open_stream = self._channel.unary_stream(
            method, request_serializer=type(message).SerializeToString, response_deserializer=response.FromString
        )
        call = open_stream(message, timeout=self._limit(timeout), metadata=self._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        finally:
            call.cancel()
