"""What a worker does for a job it does for the job's tenant, and only while it has the job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from graft.v1 import adapter_pb2, file_pb2, file_pb2_grpc, inference_pb2, release_pb2, release_pb2_grpc, server_pb2
from graft.v1 import job_pb2 as pb
from tests.adapters.making import make_adapter
from tests.server.api.conftest import Server, StartServer
from tests.server.api.fine_tuning.working import ROWS, stub
from tests.server.api.grpc.test_grpc import details_of
from tests.server.api.releases.test_gates import report

Metadata = tuple[tuple[str, str], ...]


def by(tenant: str, claim: pb.ClaimJobResponse | None = None, **others: Any) -> Metadata:
    acting = () if claim is None else (("graft-job", f"{claim.job.id}:{others.get('fence', claim.fence)}"),)
    return (("authorization", f"Bearer of-{tenant}"), *acting)


@pytest.fixture
async def server(start_server: StartServer, tmp_path: Path) -> Server:
    tenants = tmp_path / "tenants.json"
    tenants.write_text('{"of-acme": "acme", "of-work": "work", "of-beta": "beta"}')
    return await start_server(tenants_file=tenants, worker_tenant="work")


@pytest.fixture
async def claim(server: Server) -> pb.ClaimJobResponse:
    return await claimed(server)


async def claimed(server: Server, gate: pb.GateSpec | None = None) -> pb.ClaimJobResponse:
    """A job of acme's, with held-out rows where it has a gate, in the hands of a worker."""
    acme = server.openai.with_options(api_key="of-acme")
    file = await acme.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    spec = pb.JobSpec(method=pb.JOB_METHOD_SUPERVISED, model="tiny", training_file=file.id)
    if gate is not None:
        held_out = await acme.files.create(file=("held_out.jsonl", ROWS), purpose="fine-tune")
        spec.validation_file = held_out.id
        spec.gate.CopyFrom(gate)
    await stub(server).CreateJob(pb.CreateJobRequest(spec=spec), metadata=by("acme"))
    request = pb.ClaimJobRequest(worker="w")
    request.wait.FromSeconds(20)
    return await stub(server).ClaimJob(request, metadata=by("work"))


def a_version(server: Server, adapter: str, seed: int = 1) -> adapter_pb2.ImportVersionRequest:
    folder = make_adapter(server.folder / f"made-{seed}", seed=seed, base=server.base)
    return adapter_pb2.ImportVersionRequest(adapter=adapter, path=str(folder))


def results(purpose: str = "fine-tune-results") -> Iterator[file_pb2.UploadFileRequest]:
    yield file_pb2.UploadFileRequest(header=file_pb2.UploadFileHeader(filename="metrics.csv", purpose=purpose))
    yield file_pb2.UploadFileRequest(data=b"step,loss\n1,2.5\n")


async def test_versions_and_results_go_to_the_jobs_tenant(server: Server, claim: pb.ClaimJobResponse) -> None:
    assert claim.job.adapter == "ft-" + claim.job.id.removeprefix("ftjob-")
    assert claim.job.fine_tuned_model == f"ft:tiny:acme::{claim.job.id.removeprefix('ftjob-')}"
    acting, adapter = by("work", claim), claim.job.adapter
    version = (await server.adapters.ImportVersion(a_version(server, adapter), metadata=acting)).version
    pointed = adapter_pb2.SetAliasRequest(adapter=adapter, alias="stable", version=version.digest)
    await server.adapters.SetAlias(pointed, metadata=acting)
    files = file_pb2_grpc.FileServiceStub(server.channel)
    kept = (await files.UploadFile(results(), metadata=acting)).file
    assert (kept.purpose, kept.size_bytes) == ("fine-tune-results", 16)
    wanted = file_pb2.DownloadFileRequest(file=claim.job.spec.training_file)
    assert b"".join([part.data async for part in files.DownloadFile(wanted, metadata=acting)]) == ROWS
    # It is acme's, and nobody else's.
    found = await server.adapters.GetAdapter(adapter_pb2.GetAdapterRequest(adapter=adapter), metadata=by("acme"))
    assert [one.alias for one in found.adapter.aliases] == ["stable"]
    assert (await files.GetFile(file_pb2.GetFileRequest(file=kept.id), metadata=by("acme"))).file == kept
    for tenant in ("work", "beta"):
        code, _ = await details_of(
            server.adapters.GetAdapter(adapter_pb2.GetAdapterRequest(adapter=adapter), metadata=by(tenant))
        )
        assert code is grpc.StatusCode.NOT_FOUND
        code, _ = await details_of(files.GetFile(file_pb2.GetFileRequest(file=kept.id), metadata=by(tenant)))
        assert code is grpc.StatusCode.NOT_FOUND
    ask = inference_pb2.GenerateRequest(
        model=adapter, prompt=inference_pb2.Prompt(text="x"), sampling=inference_pb2.Sampling(max_tokens=1)
    )
    answers = [one async for one in server.inference.Generate(ask, metadata=acting)]
    assert answers[0].answerer.version_digest == version.digest
    assert server.metric("graft_requests_total", tenant="acme", outcome="ok", front="grpc") >= 6


async def test_where_a_job_has_a_gate_that_alone_moves_the_aliases(server: Server) -> None:
    claim = await claimed(server, pb.GateSpec(validation_loss=pb.ValidationLoss(), min_gain_over_base=0.5))
    acting, adapter = by("work", claim), claim.job.adapter
    version = (await server.adapters.ImportVersion(a_version(server, adapter), metadata=acting)).version
    pointed = adapter_pb2.SetAliasRequest(adapter=adapter, alias="stable", version=version.digest)
    at_once = a_version(server, adapter, seed=2)
    at_once.alias = "stable"
    releases = release_pb2_grpc.ReleaseServiceStub(server.channel)
    lax = pb.GateSpec(validation_loss=pb.ValidationLoss(), min_gain_over_base=-1)
    asked = release_pb2.DecideRolloutRequest(
        adapter=adapter, version=version.digest, gate=lax, report=report(gain=0.3), job=claim.job.id
    )
    other_adapter, other_job = (release_pb2.DecideRolloutRequest.FromString(asked.SerializeToString()) for _ in "ab")
    other_adapter.adapter, other_job.job = "fable", "ftjob-other"
    for call, code, words in (
        (server.adapters.SetAlias(pointed, metadata=acting), grpc.StatusCode.PERMISSION_DENIED, "has a gate"),
        (server.adapters.ImportVersion(at_once, metadata=acting), grpc.StatusCode.PERMISSION_DENIED, "has a gate"),
        (releases.DecideRollout(other_adapter, metadata=acting), grpc.StatusCode.PERMISSION_DENIED, "writes to the"),
        (releases.DecideRollout(other_job, metadata=acting), grpc.StatusCode.INVALID_ARGUMENT, "is made for ftjob-"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await call
        assert caught.value.code() is code
    asked.job = ""
    decided = (await releases.DecideRollout(asked, metadata=acting)).rollout
    assert decided.stage == release_pb2.ROLLOUT_STAGE_REFUSED and decided.job == claim.job.id
    assert "not above the least of 0.5" in decided.reasons[0], "the job's gate counts, not what the worker says it is"


async def test_without_a_gate_nothing_is_decided_by_one(server: Server, claim: pb.ClaimJobResponse) -> None:
    acting, adapter = by("work", claim), claim.job.adapter
    version = (await server.adapters.ImportVersion(a_version(server, adapter), metadata=acting)).version
    asked = release_pb2.DecideRolloutRequest(adapter=adapter, version=version.digest, report=report(gain=0.3))
    asked.gate.validation_loss.SetInParent()
    releases = release_pb2_grpc.ReleaseServiceStub(server.channel)
    with pytest.raises(grpc.aio.AioRpcError, match="has no gate"):
        await releases.DecideRollout(asked, metadata=acting)


async def test_only_while_the_worker_has_the_job(server: Server, claim: pb.ClaimJobResponse) -> None:
    files = file_pb2_grpc.FileServiceStub(server.channel)
    code, details = await details_of(files.UploadFile(results(), metadata=by("work", claim, fence=2)))
    assert code is grpc.StatusCode.ABORTED and "LEASE_LOST" in str(details)
    await stub(server).CancelJob(pb.CancelJobRequest(job=claim.job.id), metadata=by("acme"))
    for call in (
        files.UploadFile(results(), metadata=by("work", claim)),
        server.adapters.ImportVersion(a_version(server, claim.job.adapter), metadata=by("work", claim)),
    ):
        code, details = await details_of(call)
        assert code is grpc.StatusCode.ABORTED and "LEASE_LOST" in str(details)
    listed = await server.adapters.ListAdapters(adapter_pb2.ListAdaptersRequest(), metadata=by("acme"))
    assert not listed.adapters


async def test_who_may_act_and_how(server: Server, claim: pb.ClaimJobResponse) -> None:
    files = file_pb2_grpc.FileServiceStub(server.channel)
    acting = by("work", claim)
    for call, expected, words in (
        # Neither the job's own tenant nor another one says so; nor does a worker whatever it likes.
        (files.UploadFile(results(), metadata=by("acme", claim)), grpc.StatusCode.PERMISSION_DENIED, "only workers"),
        (files.UploadFile(results(), metadata=by("beta", claim)), grpc.StatusCode.PERMISSION_DENIED, "only workers"),
        (files.UploadFile(results(), metadata=by("acme")), grpc.StatusCode.INVALID_ARGUMENT, "purpose"),
        (files.UploadFile(results("fine-tune"), metadata=acting), grpc.StatusCode.INVALID_ARGUMENT, "purpose"),
        (files.ListFiles(file_pb2.ListFilesRequest(), metadata=acting), grpc.StatusCode.PERMISSION_DENIED, "ListFiles"),
        (
            files.DeleteFile(file_pb2.DeleteFileRequest(file="file-x"), metadata=acting),
            grpc.StatusCode.PERMISSION_DENIED,
            "is not done for a job",
        ),
        (
            server.adapters.ImportVersion(a_version(server, "others"), metadata=acting),
            grpc.StatusCode.PERMISSION_DENIED,
            f"writes to the adapter {claim.job.adapter}",
        ),
        (
            server.server.GetInfo(server_pb2.GetInfoRequest(), metadata=(*by("work"), ("graft-job", "ftjob-x"))),
            grpc.StatusCode.PERMISSION_DENIED,
            "is not done for a job",
        ),
        (
            files.UploadFile(results(), metadata=(*by("work"), ("graft-job", claim.job.id))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "as the claim was answered",
        ),
        (
            files.UploadFile(results(), metadata=(*by("work"), ("graft-job", "ftjob-x:1"))),
            grpc.StatusCode.NOT_FOUND,
            "there is no job",
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is expected and words in (caught.value.details() or "")
