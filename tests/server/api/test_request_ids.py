"""S25: one id in the reply, its header or trailers and every line that is logged on the request's way. S12: both
fronts count tokens by one code, whoever leaves."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest

from graft.server.operations.logs import JsonFormatter, TextFormatter
from graft.v1 import inference_pb2
from tests.server.api.conftest import Server
from tests.server.api.grpc.test_grpc import generate_request, until


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What the server logs, as JSON."""
    logger, stream, found = logging.getLogger("graft"), io.StringIO(), []
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    level, access = logger.level, logging.getLogger("graft.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    access.setLevel(logging.INFO)

    class Lines(list[dict[str, Any]]):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter([json.loads(line) for line in stream.getvalue().splitlines()])

    found = Lines()
    yield found
    logger.removeHandler(handler)
    logger.setLevel(level)


def body(**others: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "x", "max_tokens": 3, **others}


def id_in(trailers: Any) -> str:
    return str(dict(tuple(trailers or ()))["x-request-id"])


@pytest.mark.parametrize("given", [None, "my-trace/7"])
@pytest.mark.parametrize("stream", [False, True])
async def test_over_http(server: Server, lines: list[dict[str, Any]], given: str | None, stream: bool) -> None:
    headers = {"x-request-id": given} if given else {}
    reply = await server.http.post("/v1/completions", json=body(stream=stream), headers=headers)
    name = reply.headers["x-request-id"]
    assert name == given or (given is None and name.startswith("req-"))
    frames = [json.loads(one[6:]) for one in reply.text.split("\n\n") if one.startswith("data: {")]
    assert {each["id"] for each in frames or [reply.json()]} == {f"cmpl-{name}"}
    await until(lambda: [line["request_id"] for line in lines] == [name])


async def test_a_refusal_and_a_failed_load_are_told_under_the_id(server: Server, lines: list[dict[str, Any]]) -> None:
    await server.imported("joe", seed=1)
    server.script.load_error = "no room in the kernel"
    request = {"adapter": "joe", "alias": "stable", "version": "1"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.point(**request)
    name = id_in(caught.value.trailing_metadata())

    def told(text: str) -> bool:
        return any(text in line["message"] for line in lines if line.get("request_id") == name)

    await until(lambda: told("no room in the kernel") and told("SetAlias"))


@pytest.mark.parametrize("given", [None, "my-trace/7"])
async def test_over_grpc(server: Server, lines: list[dict[str, Any]], given: str | None) -> None:
    metadata = (("x-request-id", given),) if given else None
    call = server.inference.Generate(generate_request(), metadata=metadata)
    async for _ in call:
        pass
    name = id_in(await call.trailing_metadata())
    assert name == given or (given is None and name.startswith("req-"))
    bad = server.inference.Score(inference_pb2.ScoreRequest(), metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bad
    trailers = dict(tuple(caught.value.trailing_metadata()))
    assert given is None or trailers["x-request-id"] == given
    assert "grpc-status-details-bin" in trailers
    await until(lambda: [line["request_id"] for line in lines] == [name, trailers["x-request-id"]])


async def test_two_requests_at_once_may_bear_one_id(server: Server) -> None:
    headers = {"x-request-id": "same"}
    calls = [server.http.post("/v1/completions", json=body(), headers=headers) for _ in range(4)]
    assert {reply.json()["id"] for reply in await asyncio.gather(*calls)} == {"cmpl-same"}


def test_text_lines_end_in_the_id_only_where_there_is_one() -> None:
    record = logging.LogRecord("graft.x", logging.INFO, "f", 1, "said", (), None)
    assert TextFormatter().format(record).endswith("INFO graft.x: said")


async def counted(server: Server) -> dict[str, float]:
    return {kind: server.metric("graft_tokens_total", kind=kind) for kind in ("prompt", "completion")}


async def test_s12_both_fronts_count_the_same(server: Server) -> None:
    async for _ in server.inference.Generate(generate_request(max_tokens=7, num_choices=2)):
        pass
    over_grpc = await counted(server)
    await server.http.post("/v1/completions", json=body(max_tokens=7, n=2))
    after_plain = await counted(server)
    await server.http.post("/v1/completions", json=body(max_tokens=7, n=2, stream=True))
    after_stream = await counted(server)
    assert over_grpc["completion"] == 14
    for before, after in ((over_grpc, after_plain), (after_plain, after_stream)):
        assert after["completion"] - before["completion"] == 14
        assert after["prompt"] - before["prompt"] == 1


@pytest.mark.parametrize("front", ["grpc", "http", "plain"])
async def test_s12_what_was_made_for_a_caller_who_left_is_counted(server: Server, front: str) -> None:
    server.script.token_seconds = 0.005
    if front == "grpc":
        call = server.inference.Generate(generate_request(max_tokens=900))
        for _ in range(50):
            await call.read()
        call.cancel()
    elif front == "http":
        async with server.http.stream("POST", "/v1/completions", json=body(stream=True, max_tokens=900)) as reply:
            frames = reply.aiter_lines()
            for _ in range(100):
                await anext(frames)
    else:
        plain = asyncio.create_task(server.http.post("/v1/completions", json=body(max_tokens=900)))
        await until(lambda: server.metric("graft_tokens_total", kind="completion") >= 50)
        plain.cancel()
    await until(lambda: not server.script.active)
    assert 50 <= (await counted(server))["completion"] < 900
