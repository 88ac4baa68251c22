"""What is told becomes reports, whatever is cut off, refused or away meanwhile: with a server that is a list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from graft.adapters.form import ServingForm
from graft.client.errors import Conflict, Details, InvalidArgument, Unavailable
from graft.training.worker.client import LEASE_LOST, WorkerClient
from graft.training.worker.folder import JobFolder
from graft.training.worker.lease import Lease
from graft.training.worker.supervising.keeper import Keeper
from graft.training.worker.supervising.reporting import LeaseGone, Reporting
from graft.training.worker.tell import FILE, Tell
from graft.v1 import job_pb2 as pb

AWAY = Unavailable("away", code=grpc.StatusCode.UNAVAILABLE)
LOST = Conflict("lost", code=grpc.StatusCode.ABORTED, details=Details(reason=LEASE_LOST))
REFUSED = InvalidArgument("a no-op", code=grpc.StatusCode.INVALID_ARGUMENT)


@dataclass
class Heard:
    """A server's side: reports by number, each once."""

    errors: list[Exception | None] = field(default_factory=list)
    """Of the next calls, in order; None lets one through."""
    reports: dict[int, pb.ReportJobRequest] = field(default_factory=dict)
    pushed: list[str] = field(default_factory=list)

    def _fail(self) -> None:
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error

    def report(self, report: pb.ReportJobRequest) -> pb.JobState.ValueType:
        self._fail()
        self.reports.setdefault(report.number, report)
        return pb.JOB_STATE_RUNNING

    def push(self, path: Path) -> str:
        self._fail()
        self.pushed.append(path.name)
        return f"sha256:{path.name}"

    @property
    def steps(self) -> list[float]:
        return [one.data["step"] for report in self.reports.values() for one in report.events if one.is_metrics]


Start = Callable[..., Reporting]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def start(tmp_path: Path, heard: Heard) -> Start:
    def made(**others: int) -> Reporting:
        job = pb.Job(id="ftjob-1", progress=pb.JobProgress(step=others.get("told_step", 0), num_steps=9))
        folder = JobFolder(
            path=tmp_path, job=job, adapter="a", base=tmp_path, form=ServingForm.NF4, target="", fence=1, **others
        )
        folder.write()
        assert JobFolder.read(folder.attempt) == folder
        lease = Lease(9.0, sent=0.0, now=lambda: 0.0)
        keeper = Keeper(WorkerClient("localhost:1", token=None), job="ftjob-1", fence=1, lease=lease)
        return Reporting(folder, keeper, push=heard.push, report=heard.report)

    return made


def tell(tmp_path: Path) -> Tell:
    return Tell(path=tmp_path / "attempt-1" / FILE)


def test_metrics_and_the_step_that_is_known_go_together(tmp_path: Path, start: Start, heard: Heard) -> None:
    """Else a worker that is killed between has the next one tell the step again."""
    reporting, told = start(told_step=2), tell(tmp_path)
    for step in (1, 2, 3, 4):
        told.metrics(step, {"train_loss": 1.0}, message=f"Step {step}")
        assert reporting.go_on()
        told.progress(step, num_steps=9, trained_tokens=step)
        assert reporting.go_on()
    assert heard.steps == [3, 4]
    known = 2
    for report in heard.reports.values():
        known = max([known, *(int(one.data["step"]) for one in report.events)])
        assert report.progress.step == known and report.progress.num_steps == 9


def test_a_server_that_is_away_hears_all_in_order_later(tmp_path: Path, start: Start, heard: Heard) -> None:
    reporting, told = start(), tell(tmp_path)
    told.metrics(1, {}, message="Step 1")
    told.checkpoint(1, tmp_path / "step-1", {"train_loss": 1.0})
    told.metrics(2, {}, message="Step 2")
    heard.errors = [AWAY, AWAY]
    assert not reporting.go_on() and not heard.reports, "the push waits, and what was told before it was kept"
    reporting = start()  # the worker was killed
    assert reporting.go_on()
    assert heard.steps == [1, 2] and heard.pushed == ["step-1"]
    assert [one.version_digest for report in heard.reports.values() for one in report.checkpoints] == ["sha256:step-1"]
    assert list(heard.reports) == list(range(1, len(heard.reports) + 1))


def test_a_checkpoint_that_is_refused_is_said_once_and_holds_nothing_up(
    tmp_path: Path, start: Start, heard: Heard
) -> None:
    reporting, told = start(checkpoint_step=1), tell(tmp_path)
    for step in (1, 2, 3):  # the first is known from the claim before
        told.checkpoint(step, tmp_path / f"step-{step}", {})
    heard.errors = [REFUSED]
    assert reporting.go_on() and heard.pushed == ["step-3"]
    (report,) = heard.reports.values()
    assert [one.message for one in report.events] == ["The checkpoint after step 2 is not kept: a no-op"]
    assert report.events[0].level == pb.JOB_EVENT_LEVEL_WARN


def test_a_lost_job_is_told_of_no_more(tmp_path: Path, start: Start, heard: Heard) -> None:
    reporting = start()
    tell(tmp_path).event("hello")
    heard.errors = [LOST]
    with pytest.raises(LeaseGone):
        reporting.go_on()
    assert not heard.reports
