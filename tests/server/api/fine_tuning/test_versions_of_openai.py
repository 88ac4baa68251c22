"""A user's script, with a scripted engine and worker: `tests/end_to_end/fine_tuning` has both real."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from graft.v1 import file_pb2, file_pb2_grpc
from graft.v1 import job_pb2 as pb
from tests.clients.versions_of_openai import each_version, told_by
from tests.server.api.conftest import Server
from tests.server.api.fine_tuning.working import Worker

pytestmark = pytest.mark.slow


async def _results(worker: Worker) -> str:
    async def parts() -> AsyncIterator[file_pb2.UploadFileRequest]:
        header = file_pb2.UploadFileHeader(filename="step_metrics.csv", purpose="fine-tune-results")
        yield file_pb2.UploadFileRequest(header=header)
        yield file_pb2.UploadFileRequest(data=b"step,train_loss\n1,1.5\n")

    claim = worker.claim
    acting = (("graft-job", f"{claim.job.id}:{claim.fence}"),)
    files = file_pb2_grpc.FileServiceStub(worker.server.channel)
    return (await files.UploadFile(parts(), metadata=acting)).file.id


async def _work(server: Server) -> None:
    """Takes a step of each job and waits to be asked to pause, or is cancelled. A job with a suffix takes another step
    when it goes on, and ends.
    """
    while True:
        worker = Worker(server)
        if not (await worker.claimed()).HasField("job"):
            continue
        step = worker.claim.job.progress.step + 1
        with contextlib.suppress(grpc.aio.AioRpcError):
            await worker.report(step)
            if step == 2 and worker.claim.job.spec.suffix:
                result = pb.JobResult(
                    adapter=worker.claim.job.adapter,
                    version_digest=worker.versions[2],
                    trained_tokens=200,
                    result_files=[await _results(worker)],
                )
                await worker.complete(result=result)
            else:
                while await worker.heartbeat() == pb.JOB_STATE_RUNNING:
                    await asyncio.sleep(0.05)
                await worker.complete(release=pb.JobRelease())


@each_version
async def test_a_users_script(server: Server, tmp_path: Path, python: str) -> None:
    working = asyncio.create_task(_work(server))
    try:
        url = f"http://127.0.0.1:{server.http_port}"
        told = await told_by(python, url, tmp_path, model="tiny")
    finally:
        working.cancel()
    for method in told["methods"].values():
        assert method["model"].startswith("ft:tiny:default:mine:") and method["tokens"] == 200
        assert (method["checkpoints"], method["results"]) == (2, 1) and method["events"] > 5
