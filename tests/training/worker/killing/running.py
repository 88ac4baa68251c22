"""Servers and workers as processes, and what a user sees of their jobs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from graft.client import Client, GraftClientError
from graft.client.operation import itself, unary
from graft.v1 import file_pb2
from graft.v1 import job_pb2 as pb
from tests.running import children_of, free_port
from tests.training.worker.killing.standin import ALLOWED, SPANS

T = TypeVar("T")


class User(Client):
    """Makes jobs and looks at them. A server that is away is asked again."""

    def made(self, rows: bytes, *, model: str, **spec: Any) -> str:
        header = file_pb2.UploadFileHeader(filename="rows.jsonl", purpose="fine-tune")
        parts = [file_pb2.UploadFileRequest(header=header), file_pb2.UploadFileRequest(data=rows)]
        file = self._upload("/graft.v1.FileService/UploadFile", iter(parts), file_pb2.UploadFileResponse, None).file
        asked = pb.JobSpec(method=pb.JOB_METHOD_SUPERVISED, model=model, training_file=file.id, seed=3)
        asked.MergeFrom(pb.JobSpec(**spec))
        request = pb.CreateJobRequest(spec=asked)
        return self._call(unary("JobService", request, pb.CreateJobResponse, itself)).job.id

    def job(self, job: str) -> pb.Job:
        request = pb.GetJobRequest(job=job)
        return again(lambda: self._call(unary("JobService", request, pb.GetJobResponse, itself)).job)

    def asked(self, request: Any, response: Any) -> None:
        self._call(unary("JobService", request, response, itself))

    def reached(self, job: str, *states: pb.JobState.ValueType, seconds: float = 300.0) -> pb.Job:
        return until(lambda: (found := self.job(job)).state in states and found, seconds=seconds)

    def events(self, job: str) -> list[pb.JobEvent]:
        """All, oldest first."""
        request = pb.ListJobEventsRequest(job=job, page_size=1000)
        answer = again(lambda: self._call(unary("JobService", request, pb.ListJobEventsResponse, itself)))
        return list(reversed(answer.events))

    def checkpoints(self, job: str) -> list[int]:
        request = pb.ListJobCheckpointsRequest(job=job)
        answer = again(lambda: self._call(unary("JobService", request, pb.ListJobCheckpointsResponse, itself)))
        return sorted(one.step for one in answer.checkpoints)


def again(call: Callable[[], T]) -> T:
    end = time.monotonic() + 120
    while True:
        try:
            return call()
        except GraftClientError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def until(look: Callable[[], T], *, seconds: float = 120.0) -> T:
    """What ``look`` finds, when it finds something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)
    return found


@dataclass(kw_only=True)
class Machine:
    """Where processes of a test run; ``close`` leaves none."""

    folder: Path
    base: Path
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    """Of its processes, beside the tests' own."""
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    server: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start_server(self) -> subprocess.Popen[bytes]:
        """On the same data and port each time; it is ready."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        given = {"base": str(self.base), "grpc_port": self.port, "http_port": 0, "data_dir": str(self.folder / "data")}
        server = self._started(
            "server",
            "-m",
            "tests.training.worker.killing.scripted_server",
            json.dumps(given | self.settings),
            str(ready),
        )
        until(lambda: ready.exists() or server.poll() is not None)
        self.server = server
        assert server.poll() is None, (self.folder / "server.log").read_text()[-3000:]
        return server

    def start_worker(self, name: str, *, folder: str = "jobs") -> subprocess.Popen[bytes]:
        arguments = (self.target, str(self.folder / folder), name, str(self.base))
        return self._started(name, "-m", "tests.training.worker.killing.standin_worker", *arguments)

    def spans(self, job: str) -> list[Path]:
        """When each attempt took its steps, in their order."""
        return sorted((self.folder / "spans").glob(f"{job}.*"))

    def start_command(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self._started(name, "-m", "graft.cli.main", *arguments)

    def _started(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        spans = self.folder / "spans"
        spans.mkdir(exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment, SPANS: str(spans)},
            )
        self.processes.append(process)
        return process

    def allow(self, num_steps: int) -> None:
        """Trainings take so many steps and wait."""
        draft = self.folder / ".allowed"
        draft.write_text(str(num_steps))
        draft.rename(self.folder / ALLOWED)

    def end_workers(self) -> None:
        """The server goes on."""
        self._end([one for one in self.processes if one is not self.server])

    def close(self) -> None:
        self._end(self.processes)

    def _end(self, processes: list[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            for pid in (*children_of(process.pid), process.pid):
                kill(pid)
            process.wait()


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kill_with_children(process: subprocess.Popen[bytes]) -> None:
    """-9 for the worker, and for what it has started."""
    for pid in (process.pid, *children_of(process.pid)):
        kill(pid)
    process.wait()


@contextlib.contextmanager
def machine(folder: Path, base: Path, **settings: Any) -> Iterator[Machine]:
    made = Machine(folder=folder, base=base, settings=settings)
    try:
        yield made
    finally:
        made.close()
