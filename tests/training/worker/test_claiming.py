"""From a server's queue to a job, or to a word of why not: with a server that answers as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import grpc
import pytest

from graft.client.errors import (
    Cancelled,
    DeadlineExceeded,
    GraftClientError,
    InvalidArgument,
    Unavailable,
    Unimplemented,
)
from graft.training.errors import ConfigurationError
from graft.training.worker.client import WorkerClient
from graft.training.worker.folder import JobFolder
from graft.training.worker.supervising import claiming, worker
from graft.training.worker.supervising.claiming import Claiming
from graft.training.worker.supervising.worker import Worker, WorkerSettings
from graft.v1 import job_pb2 as pb
from graft.v1.common_pb2 import SERVING_FORM_NF4
from graft.v1.server_pb2 import GetInfoResponse
from tests.adapters.making import make_base

AWAY = Unavailable("connection refused", code=grpc.StatusCode.UNAVAILABLE)


@dataclass
class Server:
    digest: str = "sha256:0"
    errors: list[GraftClientError] = field(default_factory=list)
    """Of the next questions what is served."""
    claim_errors: list[GraftClientError] = field(default_factory=list)
    has_job: bool = True
    waits: threading.Event | None = None
    """A claim is answered when the client is closed."""
    when_asked: Callable[[], None] = lambda: None
    claims: list[str] = field(default_factory=list)
    completed: list[pb.CompleteJobRequest] = field(default_factory=list)
    target: str = "here:1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def again(self) -> Self:
        return self

    def close(self) -> None:
        if self.waits is not None:
            self.waits.set()

    def info(self, *, timeout: float) -> GetInfoResponse:
        if self.errors:
            raise self.errors.pop(0)
        found = GetInfoResponse(form=SERVING_FORM_NF4)
        found.base.name, found.base.digest = "tiny", self.digest
        return found

    def claim(self, name: str, *, request_id: str, wait_seconds: float) -> pb.ClaimJobResponse:
        self.claims.append(request_id)
        if self.claim_errors:
            raise self.claim_errors.pop(0)
        self.when_asked()
        if self.waits is not None and wait_seconds:
            assert self.waits.wait(60), "the question is broken off"
            raise Cancelled("closed", code=grpc.StatusCode.CANCELLED)
        if not self.has_job:
            return pb.ClaimJobResponse()
        made = pb.ClaimJobResponse(job=pb.Job(id="ftjob-1", spec=pb.JobSpec(method=1)), fence=7)
        made.lease.FromSeconds(60)
        return made

    def heartbeat(self, job: str, fence: int, *, timeout: float) -> pb.JobState.ValueType:
        return pb.JOB_STATE_RUNNING

    def complete(self, request: pb.CompleteJobRequest, *, timeout: float) -> None:
        self.completed.append(request)

    @property
    def is_given_back(self) -> bool:
        (said,) = self.completed
        return (said.job, said.fence, said.WhichOneof("outcome")) == ("ftjob-1", 7, "release")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(worker, "WorkerClient", lambda *said, **more: made)
    monkeypatch.setattr(claiming, "_AGAIN_SECONDS", 0.001)
    return made


@pytest.fixture
def made(tmp_path: Path) -> Worker:
    base = make_base(tmp_path / "tiny").path
    settings = WorkerSettings(target="here:1", folder=tmp_path / "jobs", name="one", max_jobs=1)
    return Worker(settings, find_base=lambda name: base, command=lambda path: [])


def asking(server: Server, folder: Path, stop: threading.Event) -> Claiming:
    return Claiming(cast(WorkerClient, server), name="one", mark=folder / "claim", stop=stop)


def test_another_base_is_told_before_a_job_is_claimed(server: Server, made: Worker) -> None:
    with pytest.raises(ConfigurationError, match="--training-base"):
        made.run()
    assert not server.claims


def test_a_job_whose_folder_cannot_be_written_is_given_back(
    server: Server, made: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: JobFolder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(JobFolder, "write", full)
    server.digest = made._base("tiny", _digest_of(made)).digest
    with pytest.raises(ConfigurationError, match=r"No space left .* Free the worker's disk"):
        made.run()
    assert server.is_given_back
    assert not (tmp_path / "jobs" / "workers" / "one" / "claim").exists(), "the next claim is another one"


def _digest_of(made: Worker) -> str:
    from graft.adapters.base.base import Base

    return Base.from_folder(made._find_base("tiny")).digest


def test_a_base_that_changed_behind_the_claim_gives_the_job_back(server: Server, made: Worker) -> None:
    server.digest = _digest_of(made)

    def other() -> None:
        server.digest = "sha256:other"

    server.when_asked = other
    with pytest.raises(ConfigurationError, match="sha256:other"):
        made.run()
    assert server.is_given_back


def test_a_question_that_was_not_answered_in_its_time_is_asked_again(server: Server, tmp_path: Path) -> None:
    """A clock that somebody moves ends questions at once: that is no waiting for an answer."""
    server.claim_errors = [DeadlineExceeded("late", code=grpc.StatusCode.DEADLINE_EXCEEDED)]
    claiming = asking(server, tmp_path, threading.Event())
    assert claiming.claim() is None
    found = claiming.claim()
    assert found is not None and found[0].job.id == "ftjob-1"
    assert len(set(server.claims)) == 1


@pytest.mark.parametrize("has_job", [True, False])
def test_a_signal_breaks_the_question_for_a_job_off(server: Server, tmp_path: Path, has_job: bool) -> None:
    """And what was claimed meanwhile waits for nobody's lease."""
    stop = threading.Event()
    server.waits, server.has_job, server.when_asked = threading.Event(), has_job, stop.set
    assert asking(server, tmp_path, stop).claim() is None
    assert len(set(server.claims)) == 1, "by the same number, so that it is the same claim"
    assert server.is_given_back if has_job else not server.completed


def test_a_server_that_is_away_is_said_once_and_that_it_is_back(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.errors = [AWAY] * 3
    assert asking(server, tmp_path, threading.Event()).info() is not None
    first, second = capsys.readouterr().out.splitlines()
    assert first == "here:1 does not answer: connection refused; it is asked again until it does"
    assert second == "here:1 answers"


@pytest.mark.parametrize(
    "error",
    [
        Unimplemented("Method not found!", code=grpc.StatusCode.UNIMPLEMENTED),
        InvalidArgument("worker has 129 characters", code=grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_what_no_waiting_mends_ends_the_worker(server: Server, tmp_path: Path, error: GraftClientError) -> None:
    server.errors = [error]
    with pytest.raises(ConfigurationError, match="here:1"):
        asking(server, tmp_path, threading.Event()).info()


def test_a_token_that_no_header_can_hold_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from argparse import Namespace

    from graft.training.worker.supervising.started import run_worker

    flags: dict[str, Any] = {"processes": 1, "ray": None, "yield_above": 1.0, "max_jobs": 1, "ray_address": None}
    given = Namespace(**flags, folder=tmp_path, training_base=None, yield_to=None, settings=None)
    monkeypatch.setenv("GRAFT_TOKEN", "a b")
    with pytest.raises(ConfigurationError, match="GRAFT_TOKEN"):
        run_worker(given, target="localhost:1", name="one")
