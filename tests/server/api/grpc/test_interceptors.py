"""Calls of every kind pass the interceptors: they are named, counted and bounded, and their errors have details."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from graft.server.api.grpc.interceptors import Front
from graft.server.api.tenants import identify_by
from graft.server.errors import BadInput, Violation
from graft.server.operations.logs import HEADER, current_request_id
from graft.server.operations.metrics import Metrics

NAME = ((HEADER, "mine"),)


async def echo(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Each message behind the request's name, as it comes; `bad` is refused."""
    async for message in messages:
        if message == b"bad":
            raise BadInput(Violation(field="message", problem="is bad"))
        yield current_request_id().encode() + b" " + message


async def count(messages: AsyncIterator[bytes], context: Any) -> bytes:
    return b"%d" % len([message async for message in messages])


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest_asyncio.fixture
async def channel(metrics: Metrics) -> AsyncIterator[grpc.aio.Channel]:
    nobody_works: Any = None
    front = Front(metrics, identify_by({}), nobody_works, max_calls=1, default_seconds=10, write_seconds=10)
    server = grpc.aio.server(interceptors=[front])
    handlers = {
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
        "Count": grpc.stream_unary_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("graft.v1.Test", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


def outcomes(metrics: Metrics) -> dict[str, float]:
    (family,) = metrics.requests.collect()
    return {one.labels["outcome"]: one.value for one in family.samples if one.name.endswith("_total")}


async def test_a_bidirectional_call_answers_while_it_is_asked(channel: grpc.aio.Channel, metrics: Metrics) -> None:
    call = channel.stream_stream("/graft.v1.Test/Echo")(metadata=NAME, timeout=20)
    for message in (b"a", b"b"):
        await call.write(message)
        assert await call.read() == b"mine " + message
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF
    assert (HEADER, "mine") in tuple(await call.trailing_metadata())
    assert outcomes(metrics) == {"ok": 1}


async def test_its_error_comes_with_details_behind_what_was_answered(
    channel: grpc.aio.Channel, metrics: Metrics
) -> None:
    call = channel.stream_stream("/graft.v1.Test/Echo")(metadata=NAME, timeout=20)
    await call.write(b"a")
    assert await call.read() == b"mine a"
    await call.write(b"bad")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = error_details_pb2.BadRequest()
    assert any(one.Unpack(bad) for one in rpc_status.from_call(raised.value).details)
    assert [(one.field, one.description) for one in bad.field_violations] == [("message", "is bad")]
    assert (HEADER, "mine") in tuple(raised.value.trailing_metadata())
    assert outcomes(metrics) == {"invalid_argument": 1}


async def test_one_too_many_is_refused_until_the_other_has_ended(channel: grpc.aio.Channel, metrics: Metrics) -> None:
    first = channel.stream_stream("/graft.v1.Test/Echo")(timeout=20)
    await first.write(b"a")
    await first.read()
    with pytest.raises(grpc.aio.AioRpcError, match="too many calls"):
        await channel.stream_unary("/graft.v1.Test/Count")([b"a"], timeout=20)
    await first.done_writing()
    assert await first.read() == grpc.aio.EOF
    assert await channel.stream_unary("/graft.v1.Test/Count")([b"a", b"b"], timeout=20) == b"2"
    assert outcomes(metrics) == {"ok": 2, "resource_exhausted": 1}
