"""One script of a user of OpenAI's, unmodified, with 2.x and 3.x of the package: files and jobs of all three methods.

`OPENAI_INTERPRETERS` names Pythons, separated by colons, each with a version of `openai`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from graft.v1 import file_pb2, file_pb2_grpc
from graft.v1 import job_pb2 as pb
from tests.server.api.conftest import Server
from tests.server.api.fine_tuning.working import Worker

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).parents[3] / "clients" / "programs" / "with_fine_tuning.py"
METHODS = ("supervised", "dpo", "reinforcement")


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
    """Does each job that has a suffix; one without waits to be asked to pause, or is cancelled."""
    while True:
        worker = Worker(server)
        if not (await worker.claimed()).HasField("job"):
            continue
        with contextlib.suppress(grpc.aio.AioRpcError):
            if worker.claim.job.spec.suffix:
                for step in (1, 2):
                    await worker.report(step)
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


@pytest.mark.parametrize("number", range(2))
async def test_a_users_script(server: Server, tmp_path: Path, number: int) -> None:
    pythons = os.environ.get("OPENAI_INTERPRETERS", "").split(":")
    if len(pythons) <= number or not pythons[number]:
        pytest.skip("OPENAI_INTERPRETERS names no Pythons with versions of openai, separated by colons")
    working = asyncio.create_task(_work(server))
    url = f"http://127.0.0.1:{server.http_port}/v1"
    given = json.dumps({"url": url, "model": "tiny", "methods": METHODS, "seconds": 120})
    process = await asyncio.create_subprocess_exec(
        pythons[number],
        str(PROGRAM),
        given,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await process.communicate()
    working.cancel()
    assert process.returncode == 0, errors.decode()[-4000:]
    told = json.loads(said.splitlines()[-1])
    assert told["methods"].keys() == set(METHODS)
    for method in told["methods"].values():
        assert method["model"].startswith("ft:tiny:default:mine:") and method["tokens"] == 200
        assert (method["checkpoints"], method["results"], method["replies"]) == (2, 1, 3) and method["events"] > 5
    assert "line 2" in told["failed"] and "wrong.jsonl" in told["failed"]
