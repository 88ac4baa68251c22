"""Files and jobs by `graft.client`, against the real server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from graft.client import AsyncClient, Client, Conflict, IncompleteStream, InvalidArgument, NotFound, errors
from graft.client.fine_tuning.file_operation import Arriving
from graft.v1 import file_pb2
from graft.v1 import job_pb2 as pb
from tests.server.api.conftest import Server
from tests.server.api.fine_tuning.working import ROWS, Worker

BIG = bytes(range(256)) * 9_000  # more than two messages


class Relay:
    """A way to the server that can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()
        self.num_cuts = 0

    def cut(self) -> None:
        """End every connection, whatever is under way on it."""
        self.num_cuts += 1
        for writer in self._open:
            writer.transport.abort()

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._port)
        self._open |= {writer, there}
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._pass(reader, there), self._pass(there_reader, writer))
        for one in (writer, there):
            self._open.discard(one)
            one.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def relayed(server: Server) -> AsyncIterator[tuple[Relay, AsyncClient]]:
    relay = Relay(server.grpc_port)
    listening = await asyncio.start_server(relay.join, "127.0.0.1", 0)
    async with AsyncClient(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout=20) as client:
        yield relay, client
    relay.cut()
    listening.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.grpc_port}", timeout=20) as client:
        yield client


async def test_files_go_and_come_back(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(BIG)
    of_path = await client.upload_file(tmp_path / "rows.jsonl")
    of_bytes = await client.upload_file(ROWS, filename="other.jsonl", purpose="user_data", expires_after_seconds=3600)
    assert (of_path.filename, of_path.size_bytes, of_path.purpose) == ("rows.jsonl", len(BIG), "fine-tune")
    assert of_bytes.expire_time.seconds - of_bytes.create_time.seconds == 3600
    assert await client.files() == [of_bytes, of_path]
    assert await client.files(oldest_first=True, limit=1) == [of_path] == await client.files(purpose="fine-tune")
    assert await client.file_content(of_path.id) == BIG
    await client.download_file(of_path.id, tmp_path / "back.jsonl")
    assert (tmp_path / "back.jsonl").read_bytes() == BIG
    assert await client.get_file(of_path.id) == of_path
    await client.delete_file(of_path.id)
    with pytest.raises(NotFound, match=of_path.id):
        await client.download_file(of_path.id, tmp_path / "never.jsonl")
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["back.jsonl", "rows.jsonl"]
    with pytest.raises(InvalidArgument, match="purpose"):
        await client.upload_file(ROWS, filename="a", purpose="nothing")
    with pytest.raises(ValueError, match="say filename"):
        await client.upload_file(ROWS)


def test_what_is_not_the_whole_file_does_not_pass_for_it() -> None:
    file = file_pb2.File(id="file-1", size_bytes=4, digest=f"sha256:{hashlib.sha256(b'abcd').hexdigest()}")
    for data, words in ((b"abc", "3 of the 4 bytes"), (b"abce", "has the digest")):
        arriving = Arriving(file)
        arriving.take(file_pb2.DownloadFileResponse(data=data))
        with pytest.raises(IncompleteStream, match=words):
            arriving.close()


async def test_jobs_are_made_found_and_moved(client: AsyncClient) -> None:
    file = (await client.upload_file(ROWS, filename="rows.jsonl")).id
    jobs = [
        await client.create_job(
            file, model="tiny", suffix=f"s{n}", seed=0, hyperparameters={"n_epochs": 2}, metadata={"n": f"{n % 2}"}
        )
        for n in range(3)
    ][::-1]
    first = jobs[-1]
    assert (first.spec.method, first.spec.seed, first.spec.hyperparameters["n_epochs"]) == (1, 0, 2)
    assert [one.id for one in await client.jobs()] == [one.id for one in jobs]
    assert [one.id for one in await client.jobs(metadata={"n": "0"})] == [jobs[0].id, jobs[2].id]
    assert [one.id for one in await client.jobs(limit=2)] == [one.id for one in jobs[:2]]
    assert (await client.cancel_job(first.id)).state == pb.JOB_STATE_CANCELLED
    assert [one.id for one in await client.jobs(state="cancelled")] == [first.id]
    assert (await client.wait_job(first.id)).state == pb.JOB_STATE_CANCELLED
    with pytest.raises(Conflict, match="it has ended"):
        await client.resume_job(first.id)
    with pytest.raises(NotFound, match="ftjob-nothing"):
        _ = [one async for one in client.watch_job("ftjob-nothing")]
    wrong: Any
    for wrong, words in (({"method": "magic"}, "supervised, dpo"), ({"sufix": "a"}, "sufix")):
        with pytest.raises((ValueError, TypeError), match=words):
            await client.create_job(file, model="tiny", **wrong)
    with pytest.raises(ValueError, match="validating_files, queued"):
        await client.jobs(state="done")


async def test_a_watch_over_breaks_loses_and_doubles_nothing(server: Server) -> None:
    chance = random.Random(16)
    async with relayed(server) as (relay, client):
        file = await client.upload_file(ROWS, filename="rows.jsonl")
        job = await client.create_job(file.id, model="tiny")
        told: list[pb.JobEvent] = []
        moved = asyncio.Event()

        async def watch() -> None:
            async for event in client.watch_job(job.id):
                told.append(event)
                moved.set()

        watching = asyncio.create_task(watch())
        worker = Worker(server)
        await worker.claimed()
        async with asyncio.timeout(60):
            for step in range(1, 25):
                await worker.report(step)
                if chance.random() < 0.3:  # heard by then, or still under way
                    while chance.random() < 0.5 and len(told) < step:
                        moved.clear()
                        await moved.wait()
                    relay.cut()
            done = await worker.succeed()
            await watching
        assert relay.num_cuts >= 4
        assert [one.number for one in told] == list(range(1, done.num_events + 1))
        assert [one.data["step"] for one in told if one.is_metrics] == list(range(1, 25))
        assert told[::-1] == await client.job_events(job.id)
        assert told[:-4:-1] == await client.job_events(job.id, limit=3)
        assert [one.step for one in await client.job_checkpoints(job.id, limit=2)] == [24, 23]
        assert [one.number async for one in client.watch_job(job.id, after=done.num_events - 1)] == [done.num_events]
        assert [one async for one in client.watch_job(job.id, after=done.num_events)] == []


async def test_the_blocking_client_watches_too(server: Server) -> None:
    with Client(f"127.0.0.1:{server.grpc_port}", timeout=20) as client:

        def asked() -> str:
            file = client.upload_file(ROWS, filename="rows.jsonl")
            assert client.file_content(file.id) == ROWS and client.files(limit=1) == [file]
            return client.create_job(file.id, model="tiny").id

        job = await asyncio.to_thread(asked)
        watching = asyncio.create_task(asyncio.to_thread(lambda: [one.number for one in client.watch_job(job)]))
        worker = Worker(server)
        await worker.claimed()
        assert (await asyncio.to_thread(client.pause_job, job)).state == pb.JOB_STATE_PAUSING
        assert (await asyncio.to_thread(client.resume_job, job)).state == pb.JOB_STATE_RUNNING
        await worker.report(1)
        done = await worker.succeed()
        async with asyncio.timeout(20):
            assert await watching == list(range(1, done.num_events + 1))
        assert (await asyncio.to_thread(client.wait_job, job)).state == pb.JOB_STATE_SUCCEEDED


async def test_watching_without_a_server_ends_when_patience_does() -> None:
    async with AsyncClient("127.0.0.1:1", timeout=5) as client:
        with pytest.raises(errors.Unavailable):
            _ = [one async for one in client.watch_job("ftjob-1", patience_seconds=0)]
