"""Jobs that train nothing, and jobs that go on from what others have made; settings beside OpenAI's."""

from __future__ import annotations

import hashlib
from typing import Any

import grpc
import openai
import pytest

from graft.v1 import adapter_pb2, job_pb2
from tests.server.api.conftest import Server
from tests.server.api.fine_tuning.working import Worker, stub, uploaded

COUNTS = {"num_rows": 3, "num_examples": 3, "num_tokens": 90, "num_learned_tokens": 30, "num_steps": 6}


async def made(server: Server, *, claims: bool = True, **extra: Any) -> Worker:
    file = await uploaded(server)
    others = {name: extra.pop(name) for name in ("suffix", "validation_file") if name in extra}
    await server.openai.fine_tuning.jobs.create(model="tiny", training_file=file, extra_body=extra, **others)
    worker = Worker(server)
    if claims:
        await worker.claimed()
    return worker


async def test_a_dry_run_ends_with_a_plan_and_no_model(server: Server) -> None:
    worker = await made(server, dry_run=True)
    job = worker.claim.job
    assert job.spec.dry_run and job.fine_tuned_model == ""
    pieces = [job_pb2.PlannedPiece(text="0 "), job_pb2.PlannedPiece(text="x", is_learned=True)]
    plan = job_pb2.JobPlan(
        **COUNTS, trained_tokens=180, notes=["It fits."], examples=[job_pb2.PlannedExample(row=1, pieces=pieces)]
    )
    plan.duration.FromMilliseconds(12_500)
    with pytest.raises(grpc.aio.AioRpcError, match="is a dry run: say its plan"):
        await worker.succeed()
    done = await worker.complete(plan=plan)
    assert done.state == job_pb2.JOB_STATE_SUCCEEDED and done.plan == plan and not done.HasField("result")
    assert await worker.complete(plan=plan) == done
    found = (await server.openai.fine_tuning.jobs.retrieve(job.id)).model_dump()
    assert (found["status"], found["fine_tuned_model"], found["trained_tokens"]) == ("succeeded", None, None)
    assert found["plan"] == {
        **COUNTS,
        "num_cut": 0,
        "num_dropped": 0,
        "trained_tokens": 180,
        "seconds": 12.5,
        "notes": ["It fits."],
        "examples": [
            {"row": 1, "pieces": [{"text": "0 ", "is_learned": False}, {"text": "x", "is_learned": True}]},
        ],
    }
    (event,) = [one async for one in server.openai.fine_tuning.jobs.list_events(job.id) if "steps" in one.message]
    assert "would take 6 steps, 180 tokens and about 12 s" in event.message
    with pytest.raises(openai.NotFoundError, match="is a dry run, which makes no model"):
        await server.openai.models.retrieve(f"ft:tiny:default::{job.id.removeprefix('ftjob-')}")


async def test_a_plan_is_bounded_and_is_no_result(server: Server) -> None:
    worker = await made(server)
    for plan, words in (
        (job_pb2.JobPlan(**COUNTS), "is no dry run: say its result"),
        (job_pb2.JobPlan(num_rows=-1), "plan.num_rows: is -1"),
        (job_pb2.JobPlan(notes=["x"] * 101), "the limit is 100"),
        (job_pb2.JobPlan(notes=["x" * 100_001]), "the limit is 100000"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await worker.complete(plan=plan)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_job_goes_on_from_anothers_checkpoint(server: Server) -> None:
    first = await made(server)
    for step in (2, 4):
        await first.report(step)
    model = first.claim.job.fine_tuned_model
    second = await made(server, from_checkpoint=f"{model}:ckpt-step-2", n_evals=0, suffix="more")
    start = second.claim.job.start
    assert (start.adapter, start.version_digest) == (first.claim.job.adapter, first.versions[2])
    assert second.claim.job.spec.HasField("n_evals") and not second.claim.job.HasField("plan")
    found = (await server.openai.fine_tuning.jobs.retrieve(second.claim.job.id)).model_dump()
    assert found["start"] == {"adapter": first.claim.job.adapter, "version_digest": first.versions[2]}
    assert found["from_checkpoint"] == f"{model}:ckpt-step-2" and found["n_evals"] == 0
    # The worker gets the files that it begins with.
    request = adapter_pb2.DownloadVersionRequest(adapter=start.adapter, version=start.version_digest)
    metadata = (("graft-job", f"{second.claim.job.id}:{second.claim.fence}"),)
    parts = [part async for part in server.adapters.DownloadVersion(request, metadata=metadata)]
    version, contents = parts[0].version, dict[str, bytes]()
    for part in parts[1:]:
        contents[part.chunk.file] = contents.get(part.chunk.file, b"") + part.chunk.data
    assert version.digest == start.version_digest
    assert {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()} == {
        file.name: file.sha256 for file in version.files
    }
    request.version = "9"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [part async for part in server.adapters.DownloadVersion(request)]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_start_stays_what_it_was_when_the_job_was_made(server: Server) -> None:
    before = await server.imported("support", seed=1)
    await server.point("support", "stable", before.digest)
    file = await uploaded(server)
    await server.openai.fine_tuning.jobs.create(model="support", training_file=file)
    after = await server.imported("support", seed=2)
    await server.point("support", "stable", after.digest)
    claim = await Worker(server).claimed()
    assert claim.job.start.version_digest == before.digest


async def test_what_is_wrong_with_them_is_said_at_once(server: Server) -> None:
    extra = {"dry_run": "yes", "n_evals": 101, "adapter": "prompt", "from_checkpoint": 1}
    with pytest.raises(openai.BadRequestError) as caught:
        await made(server, claims=False, **extra)
    assert set(str(caught.value.param).split(", ")) == set(extra)
    with pytest.raises(openai.BadRequestError, match="n_evals: is 3 without a validation_file"):
        await made(server, claims=False, n_evals=3)
    with pytest.raises(openai.BadRequestError, match=r"from_checkpoint: .* is none; it is a job's id"):
        await made(server, claims=False, from_checkpoint="x")
    held_out = await uploaded(server, name="held.jsonl")
    worker = await made(server, n_evals=3, validation_file=held_out)
    assert worker.claim.job.spec.n_evals == 3
    listed = await stub(server).ListJobs(job_pb2.ListJobsRequest())
    assert len(listed.jobs) == 1
