"""What a job has made answers by its name wherever a model is named, to its tenant only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import openai
import pytest

from graft.server.jobs.job import short_id
from graft.v1 import adapter_pb2, job_pb2
from graft.v1 import inference_pb2 as pb
from tests.server.api.conftest import Server
from tests.server.api.fine_tuning.working import Worker, reached, stub, uploaded
from tests.server.api.test_classify import headed

ASKED: Mapping[str, Mapping[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1},
    "/v1/completions": {"prompt": "x", "max_tokens": 1},
    "/v1/responses": {"input": "x", "max_output_tokens": 16},
}


async def trained(server: Server, **others: Any) -> tuple[Worker, str]:
    """A job that two steps have been made of, and what its model is called."""
    asked = {"model": "tiny", "training_file": await uploaded(server), **others}
    await server.openai.fine_tuning.jobs.create(**asked)
    worker = Worker(server)
    await worker.claimed()
    for step in (2, 4):
        await worker.report(step)
    return worker, worker.claim.job.fine_tuned_model


async def answered(server: Server, model: str) -> set[str]:
    """The versions that answer, by everyone who can be asked."""
    found = set()
    for path, body in ASKED.items():
        reply = await server.http.post(path, json={"model": model, **body})
        assert reply.status_code == 200, reply.text
        found.add(reply.headers["x-graft-version"])
    ask = pb.GenerateRequest(model=model, prompt=pb.Prompt(text="x"), sampling=pb.Sampling(max_tokens=1))
    found.add([one async for one in server.inference.Generate(ask)][0].answerer.version_digest)
    score = pb.ScoreRequest(model=model, prompt=pb.Prompt(text="x"), continuations=["y"])
    found.add((await server.inference.Score(score)).answerer.version_digest)
    assert (await server.openai.models.retrieve(model)).id == model
    return found


async def test_a_jobs_model_and_its_checkpoints_answer_everywhere(server: Server) -> None:
    worker, model = await trained(server, suffix="mine")
    adapter = worker.claim.job.adapter
    assert model == f"ft:tiny:default:mine:{short_id(worker.claim.job.id)}"
    for path, body in ASKED.items():
        reply = await server.http.post(path, json={"model": model, **body})
        assert reply.status_code == 404 and reply.json()["error"]["code"] == "model_not_found"
        assert "has not ended: it is running" in reply.json()["error"]["message"]
    assert await answered(server, f"{model}:ckpt-step-2") == {worker.versions[2]}
    done = await worker.succeed()
    job = await server.openai.fine_tuning.jobs.retrieve(done.id)
    assert job.fine_tuned_model == model
    assert await answered(server, model) == {worker.versions[4]} == {done.result.version_digest}
    (last, first) = [one async for one in server.openai.fine_tuning.jobs.checkpoints.list(done.id)]
    assert await answered(server, first.fine_tuned_model_checkpoint) == {worker.versions[2]}
    assert await answered(server, last.fine_tuned_model_checkpoint) == {worker.versions[4]}
    # The name is what the job made, wherever aliases point; and selectors are those of an adapter.
    await server.point(adapter, "stable", worker.versions[2])
    assert await answered(server, model) == {worker.versions[4]}
    assert await answered(server, f"{model}:stable") == {worker.versions[2]}
    assert await answered(server, f"{model}@2") == {worker.versions[4]}
    assert [one.id async for one in server.openai.models.list()] == [
        "tiny",
        "base",
        adapter,
        f"{adapter}:stable",
        model,
    ]
    await server.adapters.DeleteVersion(adapter_pb2.DeleteVersionRequest(adapter=adapter, version=worker.versions[4]))
    with pytest.raises(openai.NotFoundError, match="was deleted"):
        await server.openai.models.retrieve(model)
    assert model not in [one.id async for one in server.openai.models.list()]


async def test_versions_go_to_the_adapter_that_was_asked_for(server: Server) -> None:
    before = await server.imported("support", seed=9)
    await server.point("support", "stable", before.digest)
    worker, model = await trained(server, suffix="mine", extra_body={"adapter": "support"})
    assert worker.claim.job.adapter == "support"
    done = await worker.succeed()
    assert done.result.adapter == "support"
    assert await answered(server, model) == {worker.versions[4]}
    assert await answered(server, "support") == {before.digest}


async def test_a_model_that_classifies(server: Server) -> None:
    worker, model = await trained(server)
    await headed(server, worker.claim.job.adapter, seed=5)
    listed = await server.adapters.ListVersions(adapter_pb2.ListVersionsRequest(adapter=worker.claim.job.adapter))
    digest = listed.versions[-1].digest
    result = job_pb2.JobResult(adapter=worker.claim.job.adapter, version_digest=digest, trained_tokens=1)
    await worker.complete(result=result)
    reply = await server.http.post("/v1/classify", json={"model": model, "input": "x"})
    assert reply.status_code == 200 and reply.headers["x-graft-version"] == digest
    said = await server.inference.Classify(pb.ClassifyRequest(model=model, inputs=[pb.ClassifyInput(text="x")]))
    assert said.answerer.version_digest == digest


async def test_a_job_that_failed_says_why_its_model_does_not_answer(server: Server) -> None:
    worker, model = await trained(server)
    failure = job_pb2.JobFailure(code="out_of_memory", message="the model takes 3 GiB more than there are")
    await worker.complete(failure=failure)
    await reached(server, worker.claim.job.id, "failed")
    with pytest.raises(openai.NotFoundError, match="made no model: the model takes 3 GiB more"):
        await server.openai.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}])
    job = await server.openai.fine_tuning.jobs.retrieve(worker.claim.job.id)
    assert job.fine_tuned_model is None
    # What was saved before answers all the same.
    assert await answered(server, f"{model}:ckpt-step-4") == {worker.versions[4]}


async def test_a_result_that_is_not_there_ends_no_job(server: Server) -> None:
    worker, _ = await trained(server)
    adapter, digest = worker.claim.job.adapter, worker.versions[4]
    other = await server.imported("other", seed=7)
    for result, field in (
        (job_pb2.JobResult(adapter="other", version_digest=other.digest), "result.adapter"),
        (job_pb2.JobResult(adapter=adapter, version_digest=other.digest), "result.version_digest"),
        (job_pb2.JobResult(adapter=adapter, version_digest=digest, result_files=["file-x"]), "result_files[0]"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.complete(result=result)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and field in (caught.value.details() or "")
    found = await stub(server).GetJob(job_pb2.GetJobRequest(job=worker.claim.job.id))
    assert found.job.state == job_pb2.JOB_STATE_RUNNING
