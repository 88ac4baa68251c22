"""One tenant per request: told by its token on both fronts, and kept apart from others in all that is looked up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest

from graft import client
from graft.server.api.tenants import TokenTenants, check_worker_tenant, read_tenants
from graft.server.errors import Unauthenticated
from graft.server.settings.settings import InvalidSetting, Settings
from graft.v1 import adapter_pb2, server_pb2
from graft.v1 import inference_pb2 as pb
from tests.adapters.making import make_adapter
from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import details_of, until

ANN, JOE = "Bearer ann-7Q==", "Bearer joe.token"
PROMPT = pb.Prompt(text="x")


@pytest.fixture
def tenants_file(tmp_path: Path) -> Path:
    path = tmp_path / "tenants.json"
    path.write_text(json.dumps({"ann-7Q==": "ann", "joe.token": "joe", "old": "default"}))
    return path


def by(authorization: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", authorization),)


def request(name: str, server: Server, *, seed: int, **others: Any) -> adapter_pb2.ImportVersionRequest:
    folder = make_adapter(server.folder / f"{name}-{seed}", seed=seed, base=server.base)
    return adapter_pb2.ImportVersionRequest(adapter=name, path=str(folder), **others)


async def test_what_one_tenant_has_is_nobody_elses(start_server: StartServer, tenants_file: Path) -> None:
    server = await start_server(tenants_file=tenants_file)
    await server.adapters.ImportVersion(request("dates", server, seed=1, alias="stable"), metadata=by(ANN))
    await server.adapters.ImportVersion(request("dates", server, seed=2, alias="stable"), metadata=by(JOE))
    digests = set()
    for authorization in (ANN, JOE):
        ask = pb.GenerateRequest(model="dates", prompt=PROMPT, sampling=pb.Sampling(max_tokens=2))
        answers = [one async for one in server.inference.Generate(ask, metadata=by(authorization))]
        reply = await server.http.post(
            "/v1/completions", json={"model": "dates", "prompt": "x"}, headers={"authorization": authorization}
        )
        listed = await server.adapters.ListVersions(
            adapter_pb2.ListVersionsRequest(adapter="dates"), metadata=by(authorization)
        )
        assert [one.digest for one in listed.versions] == [reply.headers["x-graft-version"]]
        assert answers[0].answerer.version_digest == reply.headers["x-graft-version"]
        digests.add(answers[0].answerer.version_digest)
        models = (await server.http.get("/v1/models", headers={"authorization": authorization})).json()["data"]
        assert [one["id"] for one in models] == ["tiny", "base", "dates", "dates:stable"]
    assert len(digests) == 2
    headers = {"authorization": "Bearer old"}
    assert (await server.http.get("/v1/models/dates", headers=headers)).status_code == 404
    unknown = await server.http.post("/v1/completions", json={"model": "dates", "prompt": "x"}, headers=headers)
    assert unknown.status_code == 404


async def test_the_prefix_cache_is_salted_by_tenant_and_the_default_ones_is_not(
    start_server: StartServer, tenants_file: Path
) -> None:
    server = await start_server(tenants_file=tenants_file)
    ask = pb.GenerateRequest(prompt=PROMPT, sampling=pb.Sampling(max_tokens=1))
    score = pb.ScoreRequest(prompt=PROMPT, continuations=["y"])
    for authorization, salt in (("Bearer old", None), (ANN, "ann"), (JOE, "joe")):
        server.script.salts.clear()
        _ = [one async for one in server.inference.Generate(ask, metadata=by(authorization))]
        await server.inference.Score(score, metadata=by(authorization))
        body = {"model": "tiny", "prompt": "x"}
        await server.http.post("/v1/completions", json=body, headers={"authorization": authorization})
        assert server.script.salts == [salt] * 3


async def test_requests_and_tokens_are_counted_by_tenant(start_server: StartServer, tenants_file: Path) -> None:
    server = await start_server(tenants_file=tenants_file)
    ask = pb.GenerateRequest(prompt=PROMPT, sampling=pb.Sampling(max_tokens=3))
    _ = [one async for one in server.inference.Generate(ask, metadata=by(ANN))]
    body = {"model": "tiny", "prompt": "x", "max_tokens": 2}
    await server.http.post("/v1/completions", json=body, headers={"authorization": JOE})
    for tenant, front, num_tokens in (("ann", "grpc", 3), ("joe", "http", 2)):
        labels = {"tenant": tenant, "front": front, "outcome": "ok"}
        await until(lambda labels=labels: server.metric("graft_requests_total", **labels) == 1)
        assert server.metric("graft_tokens_total", tenant=tenant, kind="completion") == num_tokens
    assert server.metric("graft_requests_total", tenant="default") == 0


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ann", "Basic ann-7Q==", "ann-7Q=="])
async def test_who_brings_no_known_token_is_refused_in_one_line(
    start_server: StartServer, tenants_file: Path, authorization: str | None
) -> None:
    server = await start_server(tenants_file=tenants_file)
    metadata = by(authorization) if authorization is not None else ()
    calls = [
        server.inference.Generate(pb.GenerateRequest(prompt=PROMPT), metadata=metadata),
        server.adapters.ListAdapters(adapter_pb2.ListAdaptersRequest(), metadata=metadata),
        server.server.GetInfo(server_pb2.GetInfoRequest(), metadata=metadata),
    ]
    for call in calls:
        code, _ = await details_of(call)
        assert code is grpc.StatusCode.UNAUTHENTICATED
    headers = {"authorization": authorization} if authorization is not None else {}
    for reply in (
        await server.http.post("/v1/completions", json={"model": "tiny", "prompt": "x"}, headers=headers),
        await server.http.get("/v1/models", headers=headers),
        await server.http.get("/nowhere", headers=headers),
    ):
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (401, "invalid_api_key")
        assert "authorization" in error["message"] and "\n" not in error["message"]
        assert reply.headers["www-authenticate"] == "Bearer"
    assert server.script.num_started == 0
    await until(lambda: server.metric("graft_requests_total", tenant="", outcome="unauthenticated") == 6)
    for probe in ("/livez", "/readyz", "/metrics"):
        assert (await server.http.get(probe)).status_code == 200


async def test_a_refused_upload_is_heard_out(start_server: StartServer, tenants_file: Path) -> None:
    """grpc/grpc#36066: a status that comes while the caller sends is lost."""
    server = await start_server(tenants_file=tenants_file)

    async def parts() -> Any:
        yield adapter_pb2.UploadVersionRequest(header=adapter_pb2.UploadHeader(adapter="dates"))
        for _ in range(20):
            yield adapter_pb2.UploadVersionRequest(chunk=adapter_pb2.UploadChunk(file="a", data=b"x" * 1_000_000))

    code, _ = await details_of(server.adapters.UploadVersion(parts(), metadata=by("Bearer nobody")))
    assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_openais_client_brings_its_key_as_a_token(start_server: StartServer, tenants_file: Path) -> None:
    server = await start_server(tenants_file=tenants_file)
    with pytest.raises(openai.AuthenticationError):
        await server.openai.models.list()
    assert [one.id async for one in server.openai.with_options(api_key="joe.token").models.list()] == ["tiny", "base"]


async def test_our_own_client_brings_its_token(start_server: StartServer, tenants_file: Path) -> None:
    server = await start_server(tenants_file=tenants_file)
    target = f"127.0.0.1:{server.grpc_port}"
    async with client.AsyncClient(target) as nobody:
        with pytest.raises(client.Unauthenticated, match="authorization: is missing: send `Bearer`"):
            await nobody.info()
    async with client.AsyncClient(target, token="joe.token") as joe:
        assert (await joe.generate("x", max_tokens=1)).answerer.base == "tiny"
        assert not await joe.adapters()
    assert server.metric("graft_requests_total", tenant="joe", outcome="ok") == 2


async def test_without_a_file_whatever_token_is_brought_is_the_default_tenant(server: Server) -> None:
    await server.imported("dates", seed=1)
    listed = await server.adapters.ListAdapters(adapter_pb2.ListAdaptersRequest(), metadata=by("Bearer any"))
    assert [one.adapter for one in listed.adapters] == ["dates"]
    assert server.metric("graft_requests_total", tenant="default", front="grpc") == 2


def test_yaml_says_what_json_does(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text("# who may ask\n12345: ann\n'joe.token': joe\n2026-01-01: ann\n")
    assert read_tenants(path) == {"12345": "ann", "joe.token": "joe", "2026-01-01": "ann"}
    tenants = TokenTenants(read_tenants(path))
    assert tenants("bearer  12345 ") == "ann" and "12345" not in repr(vars(tenants))
    with pytest.raises(Unauthenticated):
        tenants("Bearer ann")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("missing.json", None, "cannot be read"),
        ("tenants.txt", "{}", "neither .json nor .yaml"),
        ("tenants.json", "{", "Expecting"),
        ("tenants.json", '["s3cret"]', "must hold an object"),
        ("tenants.json", "{}", "names no token"),
        ("tenants.json", "[" * 100_000, "nested too deep"),
        ("tenants.yaml", "[" * 100_000, "nested too deep"),
        ("tenants.yaml", "", "names no token"),
        ("tenants.yaml", "- s3cret", "must hold entries"),
        ("tenants.yaml", "a: ann\ns3cret: {", "not YAML in line"),
        ("tenants.yaml", "a: ann\ns3cret: [ann]", "entry 2: the tenant is no name"),
        ("tenants.json", '{"a": "s3cret/x"}', "entry 1: the tenant is no name"),
        ("tenants.json", '{"a": 1}', "entry 1: the tenant is no name"),
        ("tenants.json", '{"s3cret x": "ann"}', "entry 1: the token is no text"),
        ("tenants.json", '{"s3cret": "ann", "s3cret": "joe"}', "entry 2: the token stands there twice"),
    ],
)
async def test_a_file_that_cannot_be_used_is_said_at_the_start(
    start_server: StartServer, tmp_path: Path, name: str, text: str | None, problem: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidSetting, match=problem) as caught:
        await start_server(tenants_file=path)
    message = str(caught.value)
    assert message.startswith(f"tenants_file {path}: ") and "\n" not in message and "s3cret" not in message


def test_without_the_setting_there_is_one_tenant() -> None:
    assert Settings().tenants_file is None


def test_workers_are_a_tenant_that_there_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    check_worker_tenant(None, {})
    check_worker_tenant("acme", {"token": "acme"})
    assert not caplog.records
    for tenants, words in (({"token": "acme"}, "tenants_file has acme"), ({}, "there is no tenants_file")):
        with pytest.raises(InvalidSetting, match=f"worker_tenant acne: is the tenant of no token: {words}"):
            check_worker_tenant("acne", tenants)
    check_worker_tenant(None, {"token": "acme"})
    assert "nobody may work on jobs" in caplog.text
