"""What a scrape tells of the queue while a job goes through it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

from graft.v1 import job_pb2 as pb
from tests.server.api.conftest import Server, StartServer
from tests.server.api.fine_tuning.working import Worker, reached, stub, uploaded


async def scraped(server: Server, wanted: Mapping[str, float]) -> str:
    """The metrics, as soon as these series have these values."""
    async with asyncio.timeout(120):
        while True:
            text = (await server.http.get("/metrics")).text
            found = {name: re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE) for name in wanted}
            if all((one := found[name]) and float(one[1]) == value for name, value in wanted.items()):
                return text
            await asyncio.sleep(0.05)


async def queued(server: Server) -> pb.Job:
    spec = pb.JobSpec(method=pb.JOB_METHOD_SUPERVISED, model="tiny", training_file=await uploaded(server))
    job = (await stub(server).CreateJob(pb.CreateJobRequest(spec=spec))).job
    return await reached(server, job.id, "queued")


async def test_the_queue_is_scraped(start_server: StartServer) -> None:
    server = await start_server(worker_silence_seconds=12.0)  # it looks every 3 s
    job = await queued(server)
    text = await scraped(server, {'graft_jobs{state="queued"}': 1, 'graft_jobs{state="running"}': 0})
    assert "graft_job_oldest_waiting_seconds 0.0\n" not in text
    worker = Worker(server)
    await worker.claimed()
    await worker.report(1)
    text = await scraped(server, {'graft_jobs{state="running"}': 1, "graft_trained_tokens_total": 100})
    age = re.search(rf'^graft_job_heartbeat_age_seconds{{training="{job.id}"}} (\S+)$', text, re.MULTILINE)
    assert age and float(age[1]) >= 0
    await worker.succeed()
    ended = {'graft_jobs{state="succeeded"}': 1, 'graft_jobs_ended_total{outcome="succeeded"}': 1}
    text = await scraped(server, {**ended, "graft_job_claims_total": 1, "graft_job_oldest_waiting_seconds": 0})
    assert job.id not in text


async def test_a_worker_that_is_given_up_is_counted(start_server: StartServer) -> None:
    server = await start_server(worker_silence_seconds=1.0)
    await queued(server)
    await Worker(server, "silent").claimed()
    await scraped(server, {"graft_job_leases_lost_total": 1, 'graft_jobs{state="queued"}': 1})
