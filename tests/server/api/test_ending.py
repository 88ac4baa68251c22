"""Requests that still run or wait when the drain time is over end in a typed error on both fronts."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest

from graft.v1 import inference_pb2 as pb
from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import until

ASKED = {"model": "base", "prompt": "x", "max_tokens": 500}


async def end(server: Server, num_admitted: int) -> None:
    serving = server.running.serving
    await until(lambda: serving._queue.num_admitted == num_admitted)
    assert await serving.drain(0.0) == num_admitted
    serving.end()


async def test_a_stream_over_http_has_a_last_frame_that_says_so(server: Server) -> None:
    server.script.token_seconds = 0.05
    async with server.http.stream("POST", "/v1/completions", json={**ASKED, "stream": True}) as reply:
        lines = reply.aiter_lines()
        assert json.loads((await anext(lines)).removeprefix("data: "))["choices"]
        await end(server, 1)
        rest = [line async for line in lines if line]
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "server_draining"


async def test_whole_answers_scores_and_who_waits_are_told(start_server: StartServer) -> None:
    server = await start_server(max_running=2)
    server.script.hang = True
    score = server.inference.Score(pb.ScoreRequest(prompt=pb.Prompt(text="x"), continuations=["y"]))
    running = [asyncio.ensure_future(score), asyncio.ensure_future(server.http.post("/v1/completions", json=ASKED))]
    await until(lambda: server.running.serving._queue.num_admitted == 2)
    waiting = asyncio.ensure_future(server.http.post("/v1/completions", json=ASKED))
    await end(server, 3)
    for reply in (await running[1], await waiting):
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "server_draining")
    with pytest.raises(grpc.aio.AioRpcError, match="another replica") as caught:
        await running[0]
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_stream_over_grpc_ends_with_our_words(server: Server) -> None:
    server.script.token_seconds = 0.05
    request = pb.GenerateRequest(prompt=pb.Prompt(text="x"), sampling=pb.Sampling(max_tokens=500))
    call = server.inference.Generate(request)
    assert (await anext(aiter(call))).answerer.base
    await end(server, 1)
    with pytest.raises(grpc.aio.AioRpcError, match="another replica"):
        async for _ in call:
            pass
