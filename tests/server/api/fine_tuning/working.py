"""A worker as the wire sees one: what it says, without training anything."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from graft.v1 import job_pb2 as pb
from graft.v1 import job_pb2_grpc
from tests.server.api.conftest import Server

ROWS = b"".join(
    json.dumps({"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "x"}]}).encode()
    + b"\n"
    for n in range(3)
)


def stub(server: Server) -> job_pb2_grpc.JobServiceAsyncStub:
    return job_pb2_grpc.JobServiceStub(server.channel)


async def uploaded(server: Server, content: bytes = ROWS, name: str = "rows.jsonl") -> str:
    return (await server.openai.files.create(file=(name, content), purpose="fine-tune")).id


async def reached(server: Server, job: str, *states: str) -> pb.Job:
    """The job, when it is in one of these states."""
    wanted = {pb.JobState.Value(f"JOB_STATE_{one.upper()}") for one in states}
    async with asyncio.timeout(30):
        after = 0
        while True:
            found = (await stub(server).GetJob(pb.GetJobRequest(job=job))).job
            if found.state in wanted:
                return found
            async for told in stub(server).WatchJob(pb.WatchJobRequest(job=job, after_number=after)):
                after = told.event.number
                if told.event.state in wanted:
                    break


class Worker:
    """Says what it is told to about the job that it has claimed."""

    def __init__(self, server: Server, name: str = "w") -> None:
        self.server, self.name = server, name
        self.claim = pb.ClaimJobResponse()
        self.number = 0
        self.versions: dict[int, str] = {}

    async def claimed(self, **others: Any) -> pb.ClaimJobResponse:
        request = pb.ClaimJobRequest(worker=self.name, **others)
        request.wait.FromSeconds(20)
        self.claim = await stub(self.server).ClaimJob(request)
        self.number, self.versions = 0, {}
        return self.claim

    @property
    def right(self) -> dict[str, Any]:
        return {"job": self.claim.job.id, "fence": self.claim.fence}

    async def heartbeat(self) -> pb.JobState.ValueType:
        return (await stub(self.server).HeartbeatJob(pb.HeartbeatJobRequest(**self.right))).state

    async def report(self, step: int, **others: Any) -> pb.JobState.ValueType:
        """A step's metrics and its checkpoint."""
        self.number += 1
        event = pb.JobEvent(message=f"Step {step}", is_metrics=True)
        event.data.update({"step": step, "train_loss": 1.5})
        checkpoint = pb.JobCheckpoint(
            step=step, version_digest=await self.version(step), metrics={"train_loss": 1.5, "step": step}
        )
        request = pb.ReportJobRequest(
            **self.right,
            number=self.number,
            events=[event],
            checkpoints=[checkpoint],
            progress=pb.JobProgress(step=step, num_steps=4, trained_tokens=100 * step),
            **others,
        )
        return (await stub(self.server).ReportJob(request)).state

    async def complete(self, **outcome: Any) -> pb.Job:
        return (await stub(self.server).CompleteJob(pb.CompleteJobRequest(**self.right, **outcome))).job

    async def succeed(self) -> pb.Job:
        """The last step's version is what it has made."""
        digest = await self.version(max(self.versions, default=1))
        result = pb.JobResult(adapter=self.claim.job.adapter, version_digest=digest, trained_tokens=400)
        return await self.complete(result=result)

    async def version(self, step: int) -> str:
        """The digest of what a step made, which lies under the job's adapter."""
        if step not in self.versions:
            adapter = self.claim.job.adapter
            made = await self.server.imported(f"{adapter}-of-{self.name}", seed=step, adapter=adapter)
            self.versions[step] = made.digest
        return self.versions[step]
