"""The jobs of `graft align --chain` on a server: made once, found again, and made anew where one came to nothing."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from graft.client import Client
from graft.training.chain.following import Following, StageFailed
from graft.training.chain.plan import Stage, stages_of
from graft.training.chain.rows import Preferred, Rows
from graft.training.chain.settings import ChainSettings
from graft.v1 import job_pb2 as pb
from tests.server.api.conftest import Server
from tests.server.api.fine_tuning.working import Worker

ROWS = [
    Preferred(
        messages=[{"role": "user", "content": f"{number}?"}],
        chosen={"role": "assistant", "content": "yes"},
        rejected={"role": "assistant", "content": "no"},
    )
    for number in range(4)
]


@pytest.fixture
def stage() -> Stage:
    rows = Rows(learned=ROWS[:2], held_out=ROWS[2:], num_long=0)
    first, *_ = stages_of("polite", rows, ChainSettings(), base="sha256:b")
    return first


async def test_a_stage_is_one_job_however_often_it_is_asked_for(server: Server, stage: Stage) -> None:
    said: list[str] = []
    with Client(f"127.0.0.1:{server.grpc_port}") as client:
        following = Following(client=client, tell=said.append)

        def done() -> pb.Job:
            job = following.known(stage) or following.made(stage, model="tiny", options=stage.options)
            return following.ended(job)

        first = asyncio.create_task(asyncio.to_thread(done))
        worker = Worker(server)
        claim = await worker.claimed()
        assert (claim.job.adapter, claim.job.spec.seed) == ("polite-supervised", 0)
        assert claim.job.spec.validation_file and dict(claim.job.spec.metadata) == stage.metadata
        second = asyncio.create_task(asyncio.to_thread(done))
        await worker.report(1)
        await worker.report(2)
        made = await worker.succeed()
        assert (await first).id == (await second).id == made.id
        assert (await asyncio.to_thread(done)).id == made.id
        assert [one for one in said if "Step 2" in one] and len(await asyncio.to_thread(client.jobs)) == 1

        other = dataclasses.replace(stage, options={**stage.options, "metadata": {"graft-inputs": "other"}})
        assert await asyncio.to_thread(following.known, other) is None


async def test_a_stage_that_came_to_nothing_is_told_and_made_anew(server: Server, stage: Stage) -> None:
    with Client(f"127.0.0.1:{server.grpc_port}") as client:
        following = Following(client=client, tell=lambda text: None)
        job = await asyncio.to_thread(following.made, stage, model="tiny", options=stage.options)
        ended = asyncio.create_task(asyncio.to_thread(following.ended, job))
        worker = Worker(server)
        await worker.claimed()
        await worker.complete(failure=pb.JobFailure(code="diverged", message="weights are no numbers."))
        with pytest.raises(StageFailed, match=f"{job.id} is failed: weights are no numbers"):
            await ended
        assert await asyncio.to_thread(following.known, stage) is None
        again = await asyncio.to_thread(following.made, stage, model="tiny", options=stage.options)
        assert again.id != job.id
        await asyncio.to_thread(client.cancel_job, again.id)
        with pytest.raises(StageFailed, match="is cancelled: somebody ended it"):
            await asyncio.to_thread(following.ended, again)
        assert await asyncio.to_thread(following.known, stage) is None
