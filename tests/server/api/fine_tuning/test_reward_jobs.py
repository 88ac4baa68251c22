"""A job that makes a reward model is Graft's own: gRPC takes it, OpenAI's objects name no method; a grader asks it."""

from __future__ import annotations

import json
from typing import Any

import grpc
import openai
import pytest
from google.protobuf.json_format import ParseDict

from graft.v1 import grading_pb2, grading_pb2_grpc
from graft.v1 import job_pb2 as pb
from tests.server.api.conftest import Server
from tests.server.api.fine_tuning.working import Worker, reached, stub, uploaded
from tests.server.api.test_classify import headed

ASKED = {"messages": [{"role": "user", "content": "why"}]}
PAIR = {
    "input": ASKED,
    "preferred_output": [{"role": "assistant", "content": "so"}],
    "non_preferred_output": [{"role": "assistant", "content": "no"}],
}


def line(row: Any) -> bytes:
    return json.dumps(row).encode() + b"\n"


async def made(server: Server, content: bytes, **spec: Any) -> pb.Job:
    spec = {"model": "tiny", "training_file": await uploaded(server, content), **spec}
    return (await stub(server).CreateJob(pb.CreateJobRequest(spec=ParseDict(spec, pb.JobSpec())))).job


async def test_a_reward_job_learns_pairs_and_has_no_method_among_openais(server: Server) -> None:
    job = await made(server, line(PAIR), method="JOB_METHOD_REWARD", hyperparameters={"n_epochs": 2})
    claim = await Worker(server).claimed()
    assert (claim.job.id, claim.job.spec.method) == (job.id, pb.JOB_METHOD_REWARD)
    found = await server.openai.fine_tuning.jobs.retrieve(job.id)
    assert found.method is None and found.hyperparameters.n_epochs == 2
    failed = await reached(server, (await made(server, line(ASKED), method="JOB_METHOD_REWARD")).id, "failed")
    assert "preferred_output is missing" in failed.error.message


async def test_what_a_reward_job_has_not(server: Server) -> None:
    gate = {"validationLoss": {}, "file": "file-x"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await made(
            server, line(PAIR), method="JOB_METHOD_REWARD", gate=gate, grader={"a": 1}, hyperparameters={"beta": 1}
        )
    told = caught.value.details() or ""
    assert all(one in told for one in ("a reward model says a number", "only reinforcement has one", "beta: is not"))
    with pytest.raises(openai.BadRequestError, match="there are supervised, dpo, reinforcement"):
        method: Any = {"type": "reward"}
        await server.openai.fine_tuning.jobs.create(model="tiny", training_file="file-x", method=method)


async def test_a_grader_asks_a_head_of_one_output_and_no_other(server: Server) -> None:
    await headed(server, "worth", seed=1, num=1)
    await headed(server, "films", seed=2, num=3)
    grader = {"type": "reward_model", "name": "r", "model": "worth"}
    asked = grading_pb2.GradeRequest(grader=json.dumps(grader))
    asked.observations.add(output_text="so", item=json.dumps(ASKED))
    asked.observations.add(output_text="x" * 2000, item=json.dumps(ASKED))
    grading = grading_pb2_grpc.GradingServiceStub(server.channel)
    short, long = (await grading.Grade(asked)).grades
    assert not short.faults and short.tokens_by_model["worth"] > 0
    assert long.faults[0].kind == grading_pb2.GRADE_FAULT_KIND_TRUNCATED_OBSERVATION
    policy = {"method": "JOB_METHOD_REINFORCEMENT", "grader": grader, "hyperparameters": {"loss_type": "ppo"}}
    job = await made(server, line(ASKED), **policy)
    assert job.spec.hyperparameters["loss_type"] == "ppo"
    for model, words in (("films", "a head of several classes"), ("tiny", "has no head"), ("nobody", "nobody")):
        with pytest.raises(grpc.aio.AioRpcError, match=words):
            await made(server, line(ASKED), **{**policy, "grader": {**grader, "model": model}})
    with pytest.raises(grpc.aio.AioRpcError, match="loss_type"):
        await made(server, line(ASKED), **{**policy, "hyperparameters": {"loss_type": "sigmoid"}})
