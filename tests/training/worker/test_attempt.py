"""How a claim ends whose server takes not everything: with a server that answers as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from graft.adapters.form import ServingForm
from graft.client.errors import (
    Conflict,
    DeadlineExceeded,
    Details,
    GraftClientError,
    Internal,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from graft.training.worker import patience
from graft.training.worker.client import WorkerClient
from graft.training.worker.folder import JobFolder
from graft.training.worker.lease import Lease
from graft.training.worker.patience import GivenUp, LockedOut, Patience
from graft.training.worker.supervising.attempt import Attempt, Ending
from graft.training.worker.supervising.keeper import Keeper
from graft.training.worker.trained import Failed, Trained
from graft.v1 import job_pb2 as pb

Code = grpc.StatusCode
QUOTA = ResourceExhausted("full", code=Code.RESOURCE_EXHAUSTED, details=Details(reason="QUOTA_EXCEEDED"))
BUSY = ResourceExhausted("busy", code=Code.RESOURCE_EXHAUSTED, details=Details(reason="OVERLOADED"))
LATE = DeadlineExceeded("late", code=Code.DEADLINE_EXCEEDED)
BROKEN = Internal("broken", code=Code.INTERNAL)
MOVED = Conflict("moved", code=Code.ABORTED, details=Details(reason="CONFLICT"))
UNKNOWN = Unauthenticated("who is that?", code=Code.UNAUTHENTICATED)
AWAY = Unavailable("away", code=Code.UNAVAILABLE)


@dataclass
class Server:
    """Each call says the next of its errors, the last one for ever where ``goes_on`` names it, else all is well."""

    errors: dict[str, list[GraftClientError]] = field(default_factory=dict)
    goes_on: bool = False
    heard: list[str] = field(default_factory=list)
    completed: list[pb.CompleteJobRequest] = field(default_factory=list)
    reports: list[pb.ReportJobRequest] = field(default_factory=list)
    when: Callable[[str], None] = lambda name: None
    target: str = "here:1"

    def _said(self, name: str) -> None:
        self.heard.append(name)
        self.when(name)
        if left := self.errors.get(name):
            raise left[0] if self.goes_on and len(left) == 1 else left.pop(0)

    def acting(self, job: str, fence: int) -> Server:
        return self

    def close(self) -> None: ...

    def download(self, file: str, target: Path) -> None:
        target.write_text("{}\n")

    def push_adapter(self, folder: Path, *, name: str, timeout: float) -> Any:
        assert timeout >= 3600.0, "a large one takes longer than any other question"
        self._said("push")
        return type("Push", (), {"version": type("Version", (), {"digest": "sha256:1"})})

    def upload(self, path: Path, *, request_id: str) -> str:
        self._said("upload")
        return "file-1"

    def set_alias(self, *said: Any, **more: Any) -> None:
        self._said("alias")

    def report(self, report: pb.ReportJobRequest, *, timeout: float) -> pb.JobState.ValueType:
        self._said("report")
        self.reports.append(report)
        return pb.JOB_STATE_RUNNING

    def complete(self, request: pb.CompleteJobRequest, *, timeout: float) -> None:
        self._said("complete")
        self.completed.append(request)


@dataclass
class Claimed:
    """A job whose training has come to its end already, or failed."""

    server: Server
    path: Path
    stop: threading.Event = field(default_factory=threading.Event)

    def folder(self) -> JobFolder:
        job = pb.Job(id="ftjob-1", spec=pb.JobSpec(training_file="file-0"))
        found = JobFolder(
            path=self.path, job=job, adapter="a", base=self.path, form=ServingForm.NF4, target="", fence=1
        )
        found.write()
        return found

    def run(self, *, lease_seconds: float = 0.06) -> Ending:
        folder, client = self.folder(), cast(WorkerClient, self.server)
        result = self.path / "results.csv"
        result.write_text("step\n")
        Trained(adapter=self.path / "adapter", num_steps=1, trained_tokens=1, files=(result,)).write(folder.attempt)
        keeper = Keeper(client, job="ftjob-1", fence=1, lease=Lease(lease_seconds, sent=0.0, now=lambda: 0.0))
        attempt = Attempt(client, folder, keeper, command=lambda path: [], stop=self.stop)
        return attempt.run()

    @property
    def outcome(self) -> str | None:
        (said,) = self.server.completed
        return said.WhichOneof("outcome")


@pytest.fixture
def claimed(tmp_path: Path) -> Claimed:
    return Claimed(Server(), tmp_path)


def test_a_tenant_whose_room_is_used_up_is_told_so(claimed: Claimed) -> None:
    """`max_files_mib` is not freed by asking again."""
    claimed.server.errors, claimed.server.goes_on = {"upload": [QUOTA]}, True
    assert claimed.run() is Ending.FAILED
    (said,) = claimed.server.completed
    assert (said.failure.code, said.failure.message) == ("results_refused", "full")
    assert not (claimed.path / "training.jsonl").exists(), "its user's rows go with it"
    assert claimed.server.heard.count("upload") == 1


@pytest.mark.parametrize("error", [BUSY, BROKEN, MOVED, AWAY, LATE], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("where", ["push", "upload", "alias", "report", "complete"])
def test_what_may_go_well_the_next_time_is_said_again(claimed: Claimed, where: str, error: GraftClientError) -> None:
    """One wrong answer is not the end of hours of training."""
    claimed.server.errors = {where: [error, error]}
    assert claimed.run() is Ending.SUCCEEDED
    assert claimed.outcome == "result"


@pytest.mark.parametrize("error", [BUSY, BROKEN], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("where", ["push", "upload", "alias", "report"])
def test_what_never_goes_well_gives_the_job_back(
    claimed: Claimed, where: str, error: GraftClientError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was made: whoever claims it next need not train again."""
    monkeypatch.setattr(patience, "SECONDS", 0.05)
    claimed.server.errors, claimed.server.goes_on = {where: [error]}, True
    kept = claimed.path / "work" / "checkpoint-1"
    kept.mkdir(parents=True)
    assert claimed.run() is Ending.RELEASED
    assert claimed.outcome == "release" and kept.exists()


def test_a_transfer_that_never_ends_in_its_time_is_not_begun_for_ever(
    claimed: Claimed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_LONG_SECONDS", 0.0)
    claimed.server.errors, claimed.server.goes_on = {"push": [LATE]}, True
    assert claimed.run() is Ending.RELEASED
    assert claimed.server.heard.count("push") == patience.NUM_DEADLINES


def test_a_worker_that_is_to_end_gives_back_what_the_server_does_not_take(claimed: Claimed) -> None:
    claimed.server.errors, claimed.server.goes_on = {"upload": [BUSY]}, True
    claimed.server.when = lambda name: claimed.stop.set() if name == "upload" else None
    assert claimed.run() is Ending.RELEASED
    assert claimed.outcome == "release" and claimed.server.heard.count("upload") == 1


def test_a_failure_that_the_server_does_not_take_ends_the_claim_and_not_the_worker(claimed: Claimed) -> None:
    refused = GraftClientError("moved on", code=Code.FAILED_PRECONDITION)
    claimed.server.errors, claimed.server.goes_on = {"upload": [QUOTA], "complete": [refused]}, True
    assert claimed.run() is Ending.LOST


def test_a_token_that_was_changed_is_said_as_such(claimed: Claimed) -> None:
    claimed.server.errors, claimed.server.goes_on = {"push": [UNKNOWN]}, True
    with pytest.raises(LockedOut, match="who is that"):
        claimed.run()
    assert not claimed.server.completed


def test_a_clock_that_is_moved_ends_no_transfer() -> None:
    now = [0.0]
    with_it = Patience(now=lambda: now[0])
    for now[0] in range(100):  # each ends as soon as it is begun
        with_it.failed(LATE)
    now[0] += 3600.0
    with pytest.raises(GivenUp):
        with_it.failed(LATE)


def test_the_owner_hears_of_it_after_a_minute() -> None:
    now, told = [0.0], list[str]()
    with_it = Patience(told.append, now=lambda: now[0])
    waits = [with_it.failed(BUSY) for _ in range(6)]
    assert waits == [1, 2, 4, 8, 15, 15] and not told
    for now[0] in (59.0, 61.0, 62.0):
        with_it.failed(BUSY)
    assert told == ["The server does not take what the job made, and is asked again: busy"]
    now[0] = 500.0
    assert with_it.failed(AWAY) == 1.0  # nobody refused anything then
    now[0] = 1000.0
    with_it.failed(BUSY)
    now[0] = 1600.0
    with pytest.raises(GivenUp, match="busy"):
        with_it.failed(BUSY)


def test_a_failed_training_whose_end_is_not_heard_is_let_go(claimed: Claimed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SECONDS", 0.0)
    claimed.server.errors, claimed.server.goes_on = {"complete": [BROKEN]}, True
    folder = claimed.folder()
    Failed(code="invalid_settings", message="no").write(folder.attempt)
    keeper = Keeper(
        cast(WorkerClient, claimed.server), job="ftjob-1", fence=1, lease=Lease(0.06, sent=0.0, now=lambda: 0.0)
    )
    attempt = Attempt(cast(WorkerClient, claimed.server), folder, keeper, command=lambda path: [], stop=claimed.stop)
    assert attempt._fail(Failed(code="invalid_settings", message="no")) is Ending.LOST
