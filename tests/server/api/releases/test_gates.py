"""Gates as jobs have them, over both fronts; reports by which the server decides; and the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest

from graft.cli.main import main
from graft.v1 import job_pb2 as jobs
from graft.v1 import release_pb2 as pb
from tests.server.api.conftest import Server, StartServer
from tests.server.api.fine_tuning.working import stub as job_stub
from tests.server.api.fine_tuning.working import uploaded
from tests.server.api.releases.test_canaries import asked, begun, stub, two_versions

GATE: dict[str, Any] = {
    "validation_loss": {},
    "min_gain_over_stable": -0.5,
    "canary": {"share_percent": 20, "num_answers": 30, "needs_outcomes": True},
}


async def created(server: Server, gate: Any, **others: Any) -> Any:
    return await server.openai.fine_tuning.jobs.create(
        model="tiny",
        training_file=await uploaded(server),
        validation_file=await uploaded(server),
        extra_body={"gate": gate, **others},
    )


async def test_a_jobs_gate_is_the_same_over_both_fronts(server: Server) -> None:
    job = await created(server, GATE, adapter="fruit")
    given = job.model_extra["gate"]
    assert given["validation_loss"] == {} and given["canary"]["share_percent"] == 20 and given["max_rows"] == 200
    message = (await job_stub(server).GetJob(jobs.GetJobRequest(job=job.id))).job.spec.gate
    assert message.WhichOneof("metric") == "validation_loss" and message.min_gain_over_stable == -0.5
    assert (message.canary.num_answers, message.canary.needs_outcomes, message.canary.tolerance) == (30, True, 0.05)
    spec = jobs.JobSpec(
        method=jobs.JOB_METHOD_SUPERVISED, model="tiny", training_file=await uploaded(server), gate=message
    )
    spec.adapter = "fruit"
    spec.validation_file = await uploaded(server)
    other = (await job_stub(server).CreateJob(jobs.CreateJobRequest(spec=spec))).job
    assert other.spec.gate == message


async def test_what_is_wrong_with_a_gate_is_said_at_once(server: Server) -> None:
    wrong = {
        "validation_loss": {},
        "task": "sums",
        "min_gain_over_base": "much",
        "canary": {"share_percent": 0.5, "needs_outcomes": 1, "more": 2},
        "other": 1,
    }
    with pytest.raises(openai.BadRequestError) as caught:
        await created(server, wrong)
    for field in (
        "task",
        "min_gain_over_base",
        "canary.share_percent",
        "canary.needs_outcomes",
        "canary.more",
        "other",
    ):
        assert f"gate.{field}" in caught.value.message, field
    for field in ("min_gain_over_base", "min_gain_over_stable", "canary"):
        huge = {"validation_loss": {}, field: {"tolerance": 10**400} if field == "canary" else 10**400}
        with pytest.raises(openai.BadRequestError, match=rf"gate\.{field}.* a number has a magnitude of at most 1\.8e"):
            await created(server, huge)
    with pytest.raises(openai.BadRequestError, match="gate: is 3; it must be an object"):
        await created(server, 3)
    with pytest.raises(openai.BadRequestError, match="has no metric"):
        await created(server, {})
    with pytest.raises(openai.BadRequestError, match=r"gate\.file"):
        await created(server, {"task": "sums", "file": await uploaded(server)})


async def test_a_gates_grader_is_judged_when_the_job_is_made(server: Server) -> None:
    check = {"type": "string_check", "name": "right", "operation": "eq", "input": "a", "reference": "b"}
    judge = {
        "type": "score_model",
        "name": "kind",
        "model": "tiny",
        "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
        "range": [0, 10],
        "sampling_params": {"seed": 1},
    }
    both = {"type": "multi", "name": "both", "graders": {"right": check, "kind": judge}, "calculate_output": "right"}
    job = await created(server, {"grader": both})
    message = (await job_stub(server).GetJob(jobs.GetJobRequest(job=job.id))).job.spec
    assert (await job_stub(server).CreateJob(jobs.CreateJobRequest(spec=message))).job.spec.gate == message.gate
    wrong = {**both, "graders": {"right": {**check, "operation": "is"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        await created(server, {"grader": wrong}, seed=-1)
    assert {"gate.grader.graders.right.operation", "seed"} <= set(str(caught.value.param).split(", "))
    message.gate.grader.Clear()
    message.gate.grader.update(wrong)
    with pytest.raises(grpc.aio.AioRpcError, match=r"gate\.grader\.graders\.right\.operation"):
        await job_stub(server).CreateJob(jobs.CreateJobRequest(spec=message))
    message.gate.grader.update({"graders": {"kind": {**judge, "range": [0, float("nan")]}}})
    with pytest.raises(grpc.aio.AioRpcError, match=r"graders\.kind\.range\[1\]: is nan; a number is finite"):
        await job_stub(server).CreateJob(jobs.CreateJobRequest(spec=message))


async def test_a_gates_file_is_read_before_the_job_runs_and_held_while_it_does(server: Server) -> None:
    file = await uploaded(server, b'{"messages": []}\n')
    job = await created(server, {"validation_loss": {}, "file": file})
    async with asyncio.timeout(30):
        while (found := await server.openai.fine_tuning.jobs.retrieve(job.id)).status == "validating_files":
            await asyncio.sleep(0.01)
    assert found.status == "failed" and found.error is not None
    assert found.error.code == "invalid_gate_file" and "line 1" in found.error.message


def report(*, gain: float, stable: str = "", over_stable: float = 0.0) -> pb.GateReport:
    def figure(value: float) -> pb.GateFigure:
        return pb.GateFigure(value=value, low=value - 0.05, high=value + 0.05)

    made = pb.GateReport(
        metric="sums: exact_match",
        higher_is_better=True,
        num_questions=50,
        candidate=figure(0.5),
        base=pb.GateComparison(score=figure(0.5 - gain), gain=figure(gain)),
    )
    if stable:
        made.stable.CopyFrom(pb.GateComparison(version_digest=stable, score=figure(0.5), gain=figure(over_stable)))
    return made


async def decided(server: Server, version: str, said: pb.GateReport, **others: Any) -> pb.Rollout:
    gate = jobs.GateSpec(task="sums", canary=jobs.CanarySpec(share_percent=30))
    request = pb.DecideRolloutRequest(adapter="fable", version=version, gate=gate, report=said, **others)
    return (await stub(server).DecideRollout(request)).rollout


async def test_a_report_decides_and_what_it_refuses_moves_no_alias(start_server: StartServer) -> None:
    server = await start_server(parity="off")
    first, second = await two_versions(server)
    refused = await decided(server, second, report(gain=0.01, stable=first))
    assert refused.stage == pb.ROLLOUT_STAGE_REFUSED and "the gain over the base is 0.0100" in refused.reasons[0]
    worse = await decided(server, second, report(gain=0.3, stable=first, over_stable=-0.2))
    assert worse.stage == pb.ROLLOUT_STAGE_REFUSED and "over stable" in worse.reasons[0]
    assert {(await asked(server, user=str(n)))[1] for n in range(20)} == {first}
    passed = await decided(server, second, report(gain=0.3, stable=first), job="ftjob-1")
    assert passed.stage == pb.ROLLOUT_STAGE_CANARY and passed.job == "ftjob-1" and "check is off" in passed.reasons[-1]
    assert {(await asked(server, user=str(n)))[1] for n in range(40)} == {first, second}
    again = await decided(server, second, report(gain=-1, stable=first), job="ftjob-1")
    assert (again.id, again.stage) == (passed.id, passed.stage), "of a job's version it is decided once"
    with pytest.raises(grpc.aio.AioRpcError, match="has a canary already"):
        await decided(server, (await server.imported("fable", seed=3)).digest, report(gain=0.3, stable=first))


async def test_a_report_that_is_told_twice_is_answered_twice(start_server: StartServer) -> None:
    """What it did, `stable` moved, would refuse it the second time."""
    server = await start_server(parity="off")
    version = (await server.imported("fable", seed=1)).digest
    passed = await decided(server, version, report(gain=0.3), request_id="d")
    assert passed.stage == pb.ROLLOUT_STAGE_STABLE
    assert await decided(server, version, report(gain=0.3), request_id="d") == passed
    with pytest.raises(grpc.aio.AioRpcError, match="another call"):
        await decided(server, version, report(gain=0.4), request_id="d")
    second = (await server.imported("fable", seed=2)).digest
    asked_for = pb.BeginCanaryRequest(adapter="fable", version=second, request_id="c")
    begun_first = (await stub(server).BeginCanary(asked_for)).rollout
    await stub(server).PromoteRollout(pb.PromoteRolloutRequest(adapter="fable"))
    assert (await stub(server).BeginCanary(asked_for)).rollout.id == begun_first.id


async def test_without_a_receipt_a_version_passes_no_gate(server: Server) -> None:
    """The scripted server compares with what trainers recorded; these folders bring nothing."""
    first, second = await two_versions(server)
    refused = await decided(server, second, report(gain=0.3, stable=first))
    assert refused.stage == pb.ROLLOUT_STAGE_REFUSED and "nothing was compared" in refused.reasons[0]


async def test_the_first_version_of_an_adapter_becomes_stable_at_once(start_server: StartServer) -> None:
    server = await start_server(parity="off")
    version = await server.imported("fable", seed=1)
    passed = await decided(server, version.digest, report(gain=0.3))
    assert passed.stage == pb.ROLLOUT_STAGE_STABLE and "no stable to compare" in passed.reasons[-1]
    assert (await asked(server))[1] == version.digest


async def test_the_command_line(server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first, second = await two_versions(server)
    target = f"127.0.0.1:{server.grpc_port}"

    async def said(*words: str) -> str:
        code = await asyncio.to_thread(main, ["adapters", *words, "--server", target])
        assert code == 0
        return capsys.readouterr().out

    assert "no rollouts yet" in await said("rollouts")
    told = await said("canary", "fable", "2", "--share", "25", "--answers", "50")
    assert "fable@2 answers 25 % of the requests for fable" in told
    await asked(server)
    assert "canary" in await said("rollouts", "fable")
    assert "  stable\n" in await said("promote", "fable") and (await asked(server))[1] == second
    told = await said("rollback", "fable")
    assert "rolled back" in told and "asked for by hand" in told and (await asked(server))[1] == first
    listed = json.loads(await said("rollouts", "--output", "json"))
    assert [one["stage"] for one in listed] == ["ROLLOUT_STAGE_ROLLED_BACK"]
    await begun(server, second)
    assert "25 %" in await said("rollouts") and "10 %" in await said("rollouts", "--limit", "1")
