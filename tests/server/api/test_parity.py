"""Receipts in a whole server: in replies, in the catalog, before the alias moves, and across a restart."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2

from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineAdapter
from graft.v1 import adapter_pb2 as pb
from tests.adapters.making import make_adapter
from tests.server.api.adapters.test_adapters import answered_by, upload_parts
from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import details_of, generate_request, until


def logprob(adapter: EngineAdapter | None, token_id: int) -> float:
    return -1.0 if adapter is None else -2.0


async def pushed(server: Server, *, recorded: float | None, seed: int = 1, **header: Any) -> pb.AdapterVersion:
    """A version whose trainer recorded `recorded` for every token; served are −2, by the base −1."""
    server.script.logprob = logprob
    folder = make_adapter(server.folder / f"up-{seed}-{recorded}", base=server.base, seed=seed)
    if recorded is not None:
        row = ReferenceRow(token_ids=tuple(range(20)), num_prompt_tokens=4, logprobs=(recorded,) * 16)
        Reference(form=ServingForm.NF4, rows=(row,)).write(folder)
    return (await server.adapters.UploadVersion(upload_parts(folder, "joe", **header))).version


async def records_of(server: Server, version: pb.AdapterVersion) -> list[dict[str, Any]]:
    got = await server.adapters.GetVersion(pb.GetVersionRequest(adapter="joe", version=version.digest))
    return [MessageToDict(record.body) for record in got.records if record.kind == "parity_receipt"]


async def test_the_receipt_stands_in_replies_and_in_the_catalog(server: Server) -> None:
    version = await pushed(server, recorded=-2.03)
    assert "reference.json" in {file.name for file in version.files}
    await server.point("joe", "stable", "1")
    (record,) = await records_of(server, version)
    assert (record["source"], record["num_tokens"], record["kernel"]) == ("trainer", 12, "scripted")
    assert record["mean_abs_delta"] == pytest.approx(0.03) and record["base_mean_abs_delta"] == pytest.approx(1)
    parity = (await answered_by(server, "joe")).parity
    assert (parity.source, parity.num_tokens) == ("trainer", 12)
    assert parity.mean_abs_delta == pytest.approx(0.03)
    assert not (await answered_by(server, "")).HasField("parity")
    for stream in (False, True):
        body = {"model": "joe", "prompt": "a", "max_tokens": 2, "stream": stream}
        response = await server.http.post("/v1/completions", json=body)
        assert response.headers["x-graft-parity"] == "trainer;mean=0.0300;tokens=12"
    bare = await server.http.post("/v1/completions", json={"model": "tiny", "prompt": "a", "max_tokens": 2})
    assert "x-graft-parity" not in bare.headers


async def test_what_was_drifted_never_takes_the_alias_and_is_not_asked_for_again(server: Server) -> None:
    await pushed(server, recorded=-2.0)
    await server.point("joe", "stable", "1")
    bad = await pushed(server, recorded=-2.5, seed=2)
    code, details = await details_of(server.point("joe", "stable", "2"))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert details[error_details_pb2.ErrorInfo].reason == "PARITY_FAILED"
    assert (await answered_by(server, "joe")).version_number == 1
    assert len(server.script.engines[0].loaded_adapters) == 1, "it has left the engine"
    num_scored, num_loads = server.script.num_scored, server.metric("graft_adapter_loads_total")
    response = await server.http.post("/v1/completions", json={"model": "joe@2", "prompt": "a", "max_tokens": 2})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "parity_failed")
    message = response.json()["error"]["message"]
    assert "0.5000" in message and "0.05" in message and "again" in message
    assert (server.script.num_scored, server.metric("graft_adapter_loads_total")) == (num_scored, num_loads)
    (record,) = await records_of(server, bad)
    assert record["drifted"] is True


async def test_a_restarted_server_trusts_its_receipts(start_server: StartServer) -> None:
    first = await start_server()
    await pushed(first, recorded=-2.0)
    await pushed(first, recorded=-2.5, seed=2)
    await first.point("joe", "stable", "1")
    assert (await details_of(first.point("joe", "canary", "2")))[0] is grpc.StatusCode.FAILED_PRECONDITION
    await first.running.management.get_version(tenant="default", adapter="joe", version="2")
    second = await start_server()
    assert (await answered_by(second, "joe")).parity.source == "trainer"
    assert (await details_of(second.point("joe", "canary", "2")))[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert second.script.num_scored == 0 and len(second.script.engines[0].loaded_adapters) == 1


async def test_a_no_op_is_served_where_it_was_meant(server: Server) -> None:
    await pushed(server, recorded=-1.0)
    server.script.logprob = lambda adapter, token_id: -1.0
    code, _ = await details_of(server.inference.Generate(generate_request("joe@1")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    folder = server.folder / "up-1--1.0"
    await server.adapters.UploadVersion(upload_parts(folder, "joe", allow_noop=True))
    assert (await answered_by(server, "joe@1")).version_number == 1


async def test_an_engine_that_dies_during_the_check_is_said_and_the_version_is_checked_again(server: Server) -> None:
    server.script.hang = True
    await pushed(server, recorded=-2.0)
    waiting = asyncio.ensure_future(details_of(server.point("joe", "stable", "1")))
    await until(lambda: server.script.engines[0].loaded_adapters)
    assert server.script.num_scored == 1, "the base's part, which the adapter's waits for"
    server.script.engines[0].die()
    server.script.hang = False
    assert (await waiting)[0] is grpc.StatusCode.UNAVAILABLE
    await until(lambda: len(server.script.engines) == 2 and server.running.serving.readiness.ready)
    await server.point("joe", "stable", "1")
    assert (await answered_by(server, "joe")).parity.source == "trainer"


async def test_an_adapter_without_a_reference_says_so(server: Server) -> None:
    await pushed(server, recorded=None)
    parity = (await answered_by(server, "joe@1")).parity
    assert (parity.source, parity.num_tokens) == ("none", 0)


async def test_nobody_waits_for_a_check_that_is_off(start_server: StartServer) -> None:
    server = await start_server(parity="off")
    await pushed(server, recorded=-9.0)
    assert not (await answered_by(server, "joe@1")).HasField("parity")
    assert server.script.num_scored == 0
