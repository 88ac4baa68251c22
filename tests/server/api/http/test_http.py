"""HTTP: the openai client, its errors, broken streams, callers who leave or do not read."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from typing import Any

import openai
import pytest

from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import until


def body(**others: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "x", "max_tokens": 3, **others}


async def frames_of(server: Server, **others: Any) -> list[str]:
    async with server.http.stream("POST", "/v1/completions", json=body(stream=True, **others)) as response:
        assert response.status_code == 200
        text = (await response.aread()).decode()
    assert text.endswith("\n\n")
    return [frame.removeprefix("data: ") for frame in text.split("\n\n")[:-1]]


async def test_the_openai_client_is_answered_by_the_version_it_named(server: Server) -> None:
    version = await server.imported("joe", seed=1)
    await server.point("joe", "stable", "1")
    raw = await server.openai.completions.with_raw_response.create(model="joe", prompt="x", max_tokens=2)
    assert raw.parse().choices[0].text == 2 * version.digest.removeprefix("sha256:")[:4]
    assert raw.headers["x-graft-adapter"] == "joe@1"
    assert raw.headers["x-graft-version"] == version.digest
    assert raw.headers["x-graft-base"] == server.base.digest
    assert raw.headers["x-request-id"]
    base = await server.openai.completions.with_raw_response.create(model="tiny", prompt="x")
    assert base.headers["x-graft-adapter"] == "tiny" and "x-graft-version" not in base.headers


async def test_models_are_the_base_and_what_aliases_name(server: Server) -> None:
    await server.imported("joe", seed=1)
    await server.point("joe", "stable", "1")
    await server.point("joe", "canary", "1")
    names = [model.id async for model in server.openai.models.list()]
    assert names == ["tiny", "base", "joe", "joe:stable", "joe:canary"]
    assert (await server.openai.models.retrieve("joe@1")).id == "joe@1"
    with pytest.raises(openai.NotFoundError):
        await server.openai.models.retrieve("nobody")


@pytest.mark.parametrize(
    ("change", "kind", "param"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model"),
        ({"model": ""}, openai.BadRequestError, "model"),
        ({"n": 10**9}, openai.BadRequestError, "n"),
        ({"best_of": 65}, openai.BadRequestError, "best_of"),
        ({"logprobs": 21}, openai.BadRequestError, "logprobs"),
        ({"stop": ["x"] * 1_000_000}, openai.BadRequestError, "stop"),
        ({"stop": ""}, openai.BadRequestError, "stop"),
        ({"logit_bias": {str(one): 1 for one in range(2000)}}, openai.BadRequestError, "logit_bias"),
    ],
    ids=["unknown", "empty", "n", "best-of", "logprobs", "stops", "empty-stop", "biases"],
)
async def test_the_openai_client_raises_the_right_error(
    start_server: StartServer, change: dict[str, Any], kind: type[openai.APIStatusError], param: str
) -> None:
    server = await start_server(max_body_mib=16)
    with pytest.raises(kind) as caught:
        await server.openai.completions.create(**body(**change))
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    if kind is openai.NotFoundError:
        assert caught.value.code == "model_not_found"
    assert server.script.num_started == 0


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b"[" * 200_000, 400),
        (b'{"model": "tiny", "prompt": "\\ud800"}', 400),
        (b'{"model": "\xed\xa0\x80", "prompt": "x"}', 400),
        (b'{"model": "tiny", "prompt": "x", "\\udc00": 1}', 400),
        (b'{"model": "tiny", "prompt": "x", "structured_outputs": {"regex": "\\ud800"}}', 400),
        ('{"model": "tiny", "prompt": "\\ud800"}'.encode("utf-16-le"), 400),
        ('{"model": "tiny", "prompt": "x"}'.encode("utf-16"), 400),
        (b'{"model": "tiny", "prompt": "x", "temperature": NaN}', 400),
        (b'{"model": "tiny", "prompt": "x", "temperature": 1e999}', 400),
        (b'{"model": "tiny", "prompt": "x", "n": ' + b"9" * 5000 + b"}", 400),
        (b'{"model": "tiny", "prompt": "' + b"x" * 2**21 + b'"}', 413),
    ],
    ids=[
        *("empty", "broken", "list", "bytes", "deep", "surrogate", "raw-surrogate", "surrogate-in-a-name"),
        *("surrogate-in-a-form", "utf-16-surrogate", "utf-16", "nan", "infinite", "digits", "large"),
    ],
)
async def test_a_body_that_is_no_request_is_refused(start_server: StartServer, raw: bytes, status: int) -> None:
    server = await start_server(max_body_mib=1)
    response = await server.http.post("/v1/completions", content=raw)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert "set_int_max_str_digits" not in response.text
    assert server.metric("graft_requests_total", front="http", outcome="internal") == 0


@pytest.mark.parametrize("coding", ["gzip", "identity, br", "zstd"])
async def test_a_packed_body_is_refused_as_such(server: Server, coding: str) -> None:
    packed = gzip.compress(json.dumps(body()).encode())
    response = await server.http.post("/v1/completions", content=packed, headers={"content-encoding": coding})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (415, "unsupported_encoding")
    assert response.headers["accept-encoding"] == "identity"
    assert coding.rpartition(" ")[2] in error["message"] and "as it is" in error["message"]


async def test_a_body_that_is_said_to_be_as_it_is_is_read(server: Server) -> None:
    response = await server.http.post("/v1/completions", json=body(), headers={"content-encoding": "Identity"})
    assert response.status_code == 200


async def test_a_deep_schema_is_refused_before_the_engine(server: Server) -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(40):
        schema = {"properties": {"a": schema}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "response_format": wanted}
    response = await server.http.post("/v1/chat/completions", json=chat)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/v1/completions", 405, "method_not_allowed"),
        ("GET", "/docs", 404, "unknown_url"),
        ("GET", "/openapi.json", 404, "unknown_url"),
        ("POST", "/invocations", 404, "unknown_url"),
        ("POST", "/pause", 404, "unknown_url"),
    ],
)
async def test_other_routes_do_not_exist(server: Server, method: str, path: str, status: int, code: str) -> None:
    response = await server.http.request(method, path)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers["x-request-id"]


async def test_a_request_id_is_kept_where_it_is_one(server: Server) -> None:
    kept = await server.http.get("/livez", headers={"x-request-id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    other = await server.http.get("/livez", headers={"x-request-id": "a b" * 100})
    assert other.headers["x-request-id"].startswith("req-")


async def test_only_a_complete_stream_ends_in_done(server: Server) -> None:
    *chunks, done = await frames_of(server)
    assert done == "[DONE]"
    assert [json.loads(chunk)["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "length"]
    assert server.metric("graft_tokens_total", kind="completion") == 3
    assert server.metric("graft_inter_token_seconds_count") == 2
    assert json.loads((await frames_of(server, stream_options={"include_usage": True}))[-2])["usage"]


async def test_a_dead_engine_ends_a_stream_in_an_error_and_no_done(server: Server) -> None:
    server.script.token_seconds = 0.02
    asyncio.get_running_loop().call_later(0.2, server.script.engines[0].die)
    *chunks, last = await frames_of(server, max_tokens=900)
    assert chunks
    assert json.loads(last)["error"]["code"] == "engine_died"
    await until(lambda: server.metric("graft_requests_total", front="http", outcome="unavailable") == 1)


async def test_a_stream_that_stops_early_is_an_error(server: Server) -> None:
    server.script.break_after = 2
    assert "error" in json.loads((await frames_of(server, max_tokens=5))[-1])


async def test_what_fails_before_the_first_token_has_a_status(server: Server) -> None:
    server.script.crash = RuntimeError("secret")
    response = await server.http.post("/v1/completions", json=body(stream=True))
    assert response.status_code == 500 and "secret" not in response.text


async def test_a_deadline_is_a_504(start_server: StartServer) -> None:
    server = await start_server(default_deadline_seconds=0.2)
    server.script.hang = True
    for stream in (False, True):
        response = await server.http.post("/v1/completions", json=body(stream=stream))
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert not server.script.active


async def test_an_overloaded_or_unready_server_says_when_to_come_again(start_server: StartServer) -> None:
    server = await start_server(max_running=1, max_queued=0)
    server.script.token_seconds = 0.05
    running = asyncio.ensure_future(server.http.post("/v1/completions", json=body(max_tokens=900)))
    await until(lambda: len(server.script.active) == 1)
    with pytest.raises(openai.RateLimitError) as refused:
        await server.openai.completions.create(**body())
    assert float(refused.value.response.headers["retry-after"]) >= 1
    server.script.start_allowed.clear()
    server.script.engines[0].die()
    assert (await running).status_code == 503
    with pytest.raises(openai.InternalServerError) as unready:
        await server.openai.completions.create(**body())
    assert unready.value.status_code == 503
    assert (await server.http.get("/readyz")).status_code == 503
    assert (await server.http.get("/livez")).status_code == 200
    server.script.start_allowed.set()
    await until(lambda: server.running.serving.readiness.ready)
    assert (await server.http.get("/readyz")).status_code == 200


def raw_request(content: bytes) -> bytes:
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    )
    return head.encode() + b"\r\n\r\n" + content


@pytest.mark.parametrize("stream", [False, True])
async def test_callers_who_leave_end_their_generation(server: Server, stream: bool) -> None:
    server.script.token_seconds = 0.02
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
        writer.write(raw_request(json.dumps(body(max_tokens=900, stream=stream)).encode()))
        await until(lambda: len(server.script.active) == 1)
        if stream:
            await reader.readline()
        writer.close()
        await until(lambda: not server.script.active, 1.0)
    await until(lambda: server.metric("graft_requests_total", front="http", outcome="cancelled") == 20)
    assert server.metric("graft_running_requests") == 0


async def test_a_caller_who_leaves_before_the_body_is_whole_has_cancelled(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    writer.write(raw_request(b"x" * 100)[:-56])
    await writer.drain()
    writer.close()
    await until(lambda: server.metric("graft_requests_total", front="http", outcome="cancelled") == 1)
    assert server.metric("graft_requests_total", front="http", outcome="internal") == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_caller_who_leaves_the_queue_gives_its_place_back(start_server: StartServer) -> None:
    server = await start_server(max_running=1)
    server.script.hang = True
    first = asyncio.ensure_future(server.http.post("/v1/completions", json=body()))
    await until(lambda: len(server.script.active) == 1)
    _, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    writer.write(raw_request(json.dumps(body()).encode()))
    await until(lambda: server.metric("graft_queued_requests") == 1)
    writer.close()
    await until(lambda: server.metric("graft_queued_requests") == 0)
    first.cancel()
    await until(lambda: server.metric("graft_running_requests") == 0)
    assert server.script.num_started == 1


async def test_a_caller_who_does_not_read_is_let_go_and_buffers_little(start_server: StartServer) -> None:
    server = await start_server(slow_reader_seconds=1.0)
    server.script.token_seconds = 0.0
    server.script.padding = 20_000
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", server.http_port))
    request = body(max_tokens=10**9, stream=True)
    await asyncio.get_running_loop().sock_sendall(connection, raw_request(json.dumps(request).encode()))
    await until(lambda: len(server.script.active) == 1)
    # Others are served meanwhile.
    assert (await server.http.post("/v1/completions", json=body())).status_code == 200
    await until(lambda: not server.script.active, 15.0)
    outcome = {"front": "http", "outcome": "resource_exhausted"}
    await until(lambda: server.metric("graft_requests_total", **outcome) == 1)
    # The kernel's buffers hold a few MB at most.
    assert server.metric("graft_inter_token_seconds_count") < 100_000
    connection.close()


async def test_metrics_tell_the_engine_and_the_slots(server: Server) -> None:
    await server.imported("joe", seed=1)
    await server.point("joe", "stable", "1")
    text = (await server.http.get("/metrics")).text
    for line in (
        "graft_engine_ready 1.0",
        "graft_resident_versions 1.0",
        "graft_adapter_loads_total 1.0",
        "graft_engine_restarts_total 0.0",
        "graft_queued_requests 0.0",
    ):
        assert line in text.splitlines()
