"""A job's grader is read when the job is made, and what it names is sought in every row before anything is trained."""

from __future__ import annotations

import json
from typing import Any

import grpc
import openai
import pytest
from google.protobuf.json_format import ParseDict

from graft.v1 import job_pb2 as pb
from tests.server.api.conftest import Server, StartServer
from tests.server.api.fine_tuning.working import reached, stub, uploaded

WHERE = "method.reinforcement.grader"
CHECK = {
    "type": "string_check",
    "name": "right",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer.text }}",
    "operation": "eq",
}
JUDGE = {
    "type": "score_model",
    "name": "kind",
    "model": "tiny",
    "input": [{"role": "user", "content": "{{ item.question[0] }}: {{ sample.output_text }}"}],
    "range": [0, 10],
    "sampling_params": {"max_completions_tokens": 8, "seed": 1},
}
BOTH = {
    "type": "multi",
    "name": "both",
    "graders": {"right": CHECK, "kind": JUDGE},
    "calculate_output": "right + kind / 10",
}
PYTHON = {"type": "python", "name": "p", "source": "def grade(sample, item):\n    return 1.0\n"}


def rows(*extra: dict[str, Any]) -> bytes:
    asked = {"messages": [{"role": "user", "content": "a"}]}
    return b"".join(json.dumps(asked | one).encode() + b"\n" for one in extra)


SOUND = {"answer": {"text": "b"}, "question": ["why"]}


async def made(server: Server, grader: Any, content: bytes = rows(SOUND), **others: Any) -> str:
    file = await uploaded(server, content, "questions.jsonl")
    method: Any = {"type": "reinforcement", "reinforcement": {"grader": grader, **others.pop("reinforcement", {})}}
    return (await server.openai.fine_tuning.jobs.create(model="tiny", training_file=file, method=method, **others)).id


async def test_what_a_grader_names_is_in_every_row(server: Server) -> None:
    await reached(server, await made(server, BOTH, rows(SOUND, SOUND)), "queued")
    lacking = rows(SOUND, {"answer": "b", "question": ["why"]}, {"answer": {"text": "b"}, "question": []}, {})
    failed = await reached(server, await made(server, BOTH, lacking), "failed")
    said = failed.error.message
    assert (failed.error.code, failed.error.param) == ("invalid_training_file", "training_file")
    assert "questions.jsonl" in said and "3 of 4 rows" in said and "line 1" not in said
    for words in (
        'line 2: item.answer.text is missing: item.answer holds no "text", which the grader names',
        'line 3: item.question.0 is missing: item.question holds no "0"',
        'line 4: item.answer.text is missing: item holds no "answer", which the grader names; item.question.0',
    ):
        assert words in said


async def test_the_validation_file_is_compared_too(server: Server) -> None:
    held_out = await uploaded(server, rows({}), "held.jsonl")
    failed = await reached(server, await made(server, CHECK, validation_file=held_out), "failed")
    assert failed.error.param == "validation_file" and "held.jsonl" in failed.error.message


async def test_all_that_is_wrong_with_a_grader_is_said_with_all_else(server: Server) -> None:
    grader = {
        **BOTH,
        "graders": {
            "right": {**CHECK, "reference": "{{ answer }}", "operation": "is"},
            "kind": {**JUDGE, "range": [1, 0]},
        },
        "calculate_output": "right + other",
    }
    with pytest.raises(openai.BadRequestError) as caught:
        await made(server, grader, seed=-1, reinforcement={"hyperparameters": {"n_epochs": 0}})
    params = set(str(caught.value.param).split(", "))
    assert {"seed", "method.reinforcement.hyperparameters.n_epochs", f"{WHERE}.calculate_output"} <= params
    assert {f"{WHERE}.graders.right.operation", f"{WHERE}.graders.right.reference"} <= params
    assert f"{WHERE}.graders.kind.range" in params
    for grader, words in (("x", "it must be an object"), ({"type": "wise"}, "type"), (None, "is missing")):
        with pytest.raises(openai.BadRequestError, match=words):
            await made(server, grader)
    with pytest.raises(openai.BadRequestError, match="nobody"):
        await made(server, {**JUDGE, "model": "nobody"})


async def test_over_grpc_as_over_http(server: Server) -> None:
    file = await uploaded(server, rows(SOUND))
    spec = {"method": "JOB_METHOD_REINFORCEMENT", "model": "tiny", "training_file": file}
    bad = ParseDict({**spec, "grader": {**CHECK, "operation": "is"}, "priority": 101}, pb.JobSpec())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(server).CreateJob(pb.CreateJobRequest(spec=bad))
    assert all(one in (caught.value.details() or "") for one in ("spec.grader.operation", "priority"))
    good = ParseDict({**spec, "grader": BOTH}, pb.JobSpec())
    job = (await stub(server).CreateJob(pb.CreateJobRequest(spec=good))).job
    await reached(server, job.id, "queued")


async def test_scripts_are_refused_where_none_are_run(start_server: StartServer) -> None:
    server = await start_server(python_graders=False)
    with pytest.raises(openai.BadRequestError, match="python graders are not run here: ") as caught:
        await made(server, PYTHON)
    assert caught.value.param == f"{WHERE}.type"
    with pytest.raises(openai.BadRequestError, match="python graders are not run here: "):
        await made(server, {**BOTH, "graders": {"right": CHECK, "kind": PYTHON}})
