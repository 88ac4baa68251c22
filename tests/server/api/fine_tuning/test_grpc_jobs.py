"""`JobService`: users ask, a worker says, and who watches hears everything once."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from graft.v1 import job_pb2 as pb
from tests.server.api.conftest import Server, StartServer
from tests.server.api.fine_tuning.working import Worker, reached, stub, uploaded

TENANTS = '{"of-acme": "acme", "of-work": "work"}'


async def made(server: Server, *, metadata: Any = None, **spec: Any) -> pb.Job:
    spec = {"method": pb.JOB_METHOD_SUPERVISED, "model": "tiny", **spec}
    if "training_file" not in spec:
        spec["training_file"] = await uploaded(server)
    return (await stub(server).CreateJob(pb.CreateJobRequest(spec=pb.JobSpec(**spec)), metadata=metadata)).job


async def watched(server: Server, job: str, after: int = 0) -> list[pb.JobEvent]:
    request = pb.WatchJobRequest(job=job, after_number=after)
    return [told.event async for told in stub(server).WatchJob(request)]


async def test_a_job_is_watched_from_its_making_to_its_end(server: Server) -> None:
    job = await made(server)
    assert job.state == pb.JOB_STATE_VALIDATING_FILES and job.name == f"jobs/{job.id}"
    watching = asyncio.create_task(watched(server, job.id))
    worker = Worker(server)
    claim = await worker.claimed()
    assert (claim.job.id, claim.tenant, claim.fence) == (job.id, "default", 1) and not claim.HasField("checkpoint")
    assert claim.lease.seconds == server.settings.worker_silence_seconds
    resolved = {"n_epochs": 3, "batch_size": 8}
    request: dict[str, Any] = {"resolved_hyperparameters": {}}
    request["resolved_hyperparameters"].update(resolved)
    assert await worker.report(1, **request) == pb.JOB_STATE_RUNNING
    done = await worker.succeed()
    assert done.state == pb.JOB_STATE_SUCCEEDED and done.progress.trained_tokens == 100
    assert dict(done.resolved_hyperparameters) == resolved
    async with asyncio.timeout(20):
        events = await watching
    assert [one.number for one in events] == list(range(1, done.num_events + 1))
    assert events[-1].state == pb.JOB_STATE_SUCCEEDED and events[-2].data["train_loss"] == 1.5
    assert await watched(server, job.id, after=3) == events[3:] and await watched(server, job.id, after=99) == []
    listed = await stub(server).ListJobEvents(pb.ListJobEventsRequest(job=job.id, page_size=2))
    rest = await stub(server).ListJobEvents(pb.ListJobEventsRequest(job=job.id, page_token=listed.next_page_token))
    assert [*listed.events, *rest.events] == events[::-1] and not rest.next_page_token
    points = await stub(server).ListJobCheckpoints(pb.ListJobCheckpointsRequest(job=job.id))
    assert [one.step for one in points.checkpoints] == [1]


async def test_paused_and_resumed_it_goes_on_from_the_newest_checkpoint(server: Server) -> None:
    job = await made(server)
    first = Worker(server, "first")
    await first.claimed()
    for step in (1, 2):
        await first.report(step)
    await stub(server).PauseJob(pb.PauseJobRequest(job=job.id))
    assert await first.heartbeat() == pb.JOB_STATE_PAUSING
    paused = await first.complete(release=pb.JobRelease())
    assert paused.state == pb.JOB_STATE_PAUSED
    resumed = await stub(server).ResumeJob(pb.ResumeJobRequest(job=job.id))
    assert resumed.job.state == pb.JOB_STATE_QUEUED
    claim = await Worker(server, "second").claimed()
    assert (claim.job.id, claim.fence, claim.checkpoint.step) == (job.id, 2, 2)


async def test_a_cancelled_jobs_worker_is_told_to_stop(server: Server) -> None:
    job = await made(server)
    worker = Worker(server)
    await worker.claimed()
    await stub(server).CancelJob(pb.CancelJobRequest(job=job.id))
    with pytest.raises(grpc.aio.AioRpcError, match="stop working") as caught:
        await worker.heartbeat()
    assert caught.value.code() is grpc.StatusCode.ABORTED
    with pytest.raises(grpc.aio.AioRpcError):
        await worker.succeed()


async def test_a_silent_worker_loses_its_job(start_server: StartServer) -> None:
    server = await start_server(worker_silence_seconds=1.0)
    job = await made(server)
    silent = Worker(server, "silent")
    await silent.claimed()
    claim = await Worker(server, "next").claimed()
    assert (claim.job.id, claim.fence) == (job.id, 2)
    with pytest.raises(grpc.aio.AioRpcError, match="stop working"):
        await silent.report(1)


async def test_files_that_are_not_sound_fail_the_job_with_every_line(server: Server) -> None:
    file = await uploaded(server, b'{"messages": []}\nnonsense\n{"prompt": 1}\n', "bad.jsonl")
    job = await made(server, training_file=file)
    failed = await reached(server, job.id, "failed")
    assert (failed.error.code, failed.error.param) == ("invalid_training_file", "training_file")
    for words in (f"training_file bad.jsonl ({file}): 3 of 3 rows", "line 1: messages is empty", "line 2: is not JSON"):
        assert words in failed.error.message
    assert "line 3: prompt is 1" in failed.error.message and not failed.HasField("result")
    with pytest.raises(grpc.aio.AioRpcError):
        await stub(server).ResumeJob(pb.ResumeJobRequest(job=job.id))


async def test_everything_that_is_wrong_with_a_job_is_said_at_once(server: Server) -> None:
    spec = pb.JobSpec(suffix="A B", seed=-1, priority=101, metadata={"k" * 65: "v"})
    spec.hyperparameters.update({"n_epochs": "many", "beta": 1})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(server).CreateJob(pb.CreateJobRequest(spec=spec))
    for field in (
        "spec.method",
        "model",
        "training_file",
        "suffix",
        "seed",
        "priority",
        "n_epochs",
        "beta",
        "metadata",
    ):
        assert field in (caught.value.details() or "")
    with pytest.raises(grpc.aio.AioRpcError, match="training_file: there is no file 'file-1'"):
        await made(server, training_file="file-1")


async def test_jobs_are_their_tenants_and_workers_see_all(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "tenants.json").write_text(TENANTS)
    server = await start_server(tenants_file=tmp_path / "tenants.json", worker_tenant="work")
    acme, work = ((("authorization", f"Bearer of-{name}"),) for name in ("acme", "work"))
    client = server.openai.with_options(api_key="of-acme")
    file = await client.files.create(file=("a.jsonl", b'{"prompt": "a", "completion": "b"}\n'), purpose="fine-tune")
    job = await made(server, training_file=file.id, metadata=acme)
    request = pb.ClaimJobRequest(worker="w")
    request.wait.FromSeconds(20)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(server).ClaimJob(request, metadata=acme)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    claim = await stub(server).ClaimJob(request, metadata=work)
    assert (claim.job.id, claim.tenant) == (job.id, "acme")
    for call in (stub(server).GetJob(pb.GetJobRequest(job=job.id), metadata=work),):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(server).HeartbeatJob(pb.HeartbeatJobRequest(job=job.id, fence=1), metadata=acme)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_without_a_job_a_claim_is_answered_when_its_time_is_over(server: Server) -> None:
    assert not (await stub(server).ClaimJob(pb.ClaimJobRequest(worker="w"))).HasField("job")


async def test_what_a_worker_says_is_judged(server: Server) -> None:
    await made(server)
    worker = Worker(server)
    await worker.claimed()
    for call in (
        stub(server).ClaimJob(pb.ClaimJobRequest(worker="")),
        stub(server).ReportJob(pb.ReportJobRequest(**worker.right, events=[pb.JobEvent(message="x" * 10_001)])),
        stub(server).CompleteJob(pb.CompleteJobRequest(**worker.right)),
        stub(server).CompleteJob(pb.CompleteJobRequest(**worker.right, result=pb.JobResult())),
        stub(server).CompleteJob(pb.CompleteJobRequest(**worker.right, failure=pb.JobFailure())),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_numbers_that_are_none_are_refused_and_nothing_of_them_is_kept(server: Server) -> None:
    job = await made(server)
    worker = Worker(server)
    await worker.claimed()
    inf, nan, far = float("inf"), float("nan"), Duration(seconds=10**11)
    digest = await worker.version(1)
    asked = pb.JobSpec(method=pb.JOB_METHOD_SUPERVISED, model="tiny", training_file=job.spec.training_file)
    asked.hyperparameters.update({"n_epochs": inf, "batch_size": nan})
    graded = pb.JobSpec(method=pb.JOB_METHOD_REINFORCEMENT, model="tiny", training_file=job.spec.training_file)
    graded.grader.update({"type": "score_model", "range": [0, inf]})
    event = pb.JobEvent(message="x")
    event.data.update({"deep": [{"train_loss": nan}]})
    point = pb.JobCheckpoint(step=1, version_digest=digest, metrics={"train_loss": nan})
    late = pb.JobCheckpoint(step=2**31, version_digest=digest)
    resolved = Struct()
    resolved.update({"n_epochs": inf})
    plan = pb.JobPlan(duration=far)
    report = partial(pb.ReportJobRequest, **worker.right, number=1)
    for call, field in (
        (stub(server).CreateJob(pb.CreateJobRequest(spec=asked)), "n_epochs: is inf"),
        (stub(server).CreateJob(pb.CreateJobRequest(spec=graded)), "grader.range[1]: is inf"),
        (stub(server).ClaimJob(pb.ClaimJobRequest(worker="w", wait=Duration(seconds=10**13))), "wait: is 1e+13 s"),
        (stub(server).ReportJob(report(events=[event])), "events[0].data.deep[0].train_loss: is nan"),
        (stub(server).ReportJob(report(checkpoints=[point])), "checkpoints[0].metrics.train_loss: is nan"),
        (stub(server).ReportJob(report(checkpoints=[late])), "checkpoints[0].step: is 2147483648"),
        (stub(server).ReportJob(report(progress=pb.JobProgress(remaining=far))), "progress.remaining: is 1e+11 s"),
        (
            stub(server).ReportJob(report(resolved_hyperparameters=resolved)),
            "resolved_hyperparameters.n_epochs: is inf",
        ),
        (stub(server).CompleteJob(pb.CompleteJobRequest(**worker.right, plan=plan)), "plan.duration: is 1e+11 s"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and field in (caught.value.details() or "")
    century = Duration(seconds=100 * 365 * 86_400)
    await stub(server).ReportJob(report(progress=pb.JobProgress(remaining=century)))
    for path in ("", "/events", "/checkpoints"):
        assert (await server.http.get(f"/v1/fine_tuning/jobs/{job.id}{path}")).status_code == 200


async def test_lists(server: Server) -> None:
    jobs = [(await made(server, metadata=None, suffix=f"s{n}")).id for n in range(3)][::-1]
    first = await stub(server).ListJobs(pb.ListJobsRequest(page_size=2))
    rest = await stub(server).ListJobs(pb.ListJobsRequest(page_size=2, page_token=first.next_page_token))
    assert [one.id for one in [*first.jobs, *rest.jobs]] == jobs
    await stub(server).CancelJob(pb.CancelJobRequest(job=jobs[1]))
    cancelled = await stub(server).ListJobs(pb.ListJobsRequest(state=pb.JOB_STATE_CANCELLED))
    assert [one.id for one in cancelled.jobs] == [jobs[1]]
    with pytest.raises(grpc.aio.AioRpcError, match="state: is 99; this server knows validating_files, queued"):
        await stub(server).ListJobs(pb.ListJobsRequest(state=99))  # type: ignore[arg-type]
