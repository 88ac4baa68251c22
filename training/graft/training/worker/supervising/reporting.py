"""From what a training tells to what the server has heard: pushed, put into the outbox, sent in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graft.client import GraftClientError
from graft.training.worker.client import LEASE_LOST
from graft.training.worker.folder import JobFolder
from graft.training.worker.lease import unmoved
from graft.training.worker.patience import GivenUp, Patience, is_final, is_locked_out
from graft.training.worker.supervising.keeper import Keeper
from graft.training.worker.supervising.outbox import Outbox
from graft.training.worker.tell import FILE, read_told
from graft.v1 import job_pb2 as pb

_MAX_LINES = 200
"""Of a report."""
_LEVELS = {"info": pb.JOB_EVENT_LEVEL_INFO, "warn": pb.JOB_EVENT_LEVEL_WARN, "error": pb.JOB_EVENT_LEVEL_ERROR}

Push = Callable[[Path], str]
"""Makes a version of an adapter's folder, and gives its digest. Raises what the client does."""
Report = Callable[[pb.ReportJobRequest], pb.JobState.ValueType]


class Reporting:
    """Of one claim. Its methods raise OSError where the disk refuses, and ``LeaseGone``."""

    def __init__(self, folder: JobFolder, keeper: Keeper, *, push: Push, report: Report) -> None:
        self._told, self._keeper, self._push, self._report = folder.attempt / FILE, keeper, push, report
        self._outbox = Outbox(folder.attempt, job=folder.id, fence=folder.fence)
        self._step = max(self._outbox.step, folder.told_step)
        self._progress = folder.job.progress
        self._checkpoint_step = max(self._outbox.checkpoint_step, folder.checkpoint_step)
        self._pushing = Patience()
        self.problem: GraftClientError | None = None
        """Why ``go_on`` could not send all, the last time."""
        self.num_answered = 0

    @property
    def step(self) -> int:
        """Of which metrics were told last."""
        return self._step

    def event(self, message: str, *, level: str = "info", data: Mapping[str, Any] | None = None) -> None:
        """The worker's own word."""
        event = pb.JobEvent(message=message[:10_000], level=_LEVELS[level])
        if data:
            event.data.update(data)
        self._put(pb.ReportJobRequest(events=[event]), self._outbox.told_end)

    def version(self, step: int, digest: str, metrics: Mapping[str, float]) -> None:
        """A checkpoint that was pushed already."""
        if step > self._checkpoint_step:
            self._checkpoint_step = step
            found = pb.JobCheckpoint(step=step, version_digest=digest, metrics=dict(metrics))
            self._put(pb.ReportJobRequest(checkpoints=[found]), self._outbox.told_end)

    def go_on(self) -> bool:
        """Send what can be sent now. True where everything that was told so far was answered.

        Raises what the client does where sending it again is in vain.
        """
        is_read = self._read()
        while (report := self._outbox.first()) is not None:
            sent = unmoved()
            try:
                state = self._report(report)
            except GraftClientError as error:
                raise_lost(error, self._keeper)
                if is_final(error):
                    raise
                self.problem = error
                return False
            self._keeper.heard(state, sent)
            self._outbox.answered(report.number)
            self.num_answered += 1
        return is_read

    def _read(self) -> bool:
        """What was told, into the outbox; False where the rest must wait for the server."""
        report, end, num_lines = pb.ReportJobRequest(), self._outbox.told_end, 0
        for told in read_told(self._told, self._outbox.told_end):
            line = told.line
            if line["kind"] == "checkpoint":
                if not self._take_checkpoint(line, report):
                    self._put(report, end)
                    return False
            else:
                self._take(line, report)
            end, num_lines = told.end, num_lines + 1
            if num_lines >= _MAX_LINES:
                self._put(report, end)
                report, num_lines = pb.ReportJobRequest(), 0
        self._put(report, end)
        return True

    def _put(self, report: pb.ReportJobRequest, end: int) -> None:
        if report.ByteSize():
            self._outbox.put(report, told_end=end, step=self._step, checkpoint_step=self._checkpoint_step)

    def _take(self, line: Mapping[str, Any], report: pb.ReportJobRequest) -> None:
        kind = line["kind"]
        if kind == "event":
            event = report.events.add(message=line["message"][:10_000], level=_LEVELS[line["level"]])
            if line["data"]:
                event.data.update(line["data"])
        elif kind == "metrics" and line["step"] > self._step:
            self._step = line["step"]
            # In the same report: by it the next worker knows of which steps the server has heard.
            report.progress.MergeFrom(self._progress)
            report.progress.step = self._step
            report.events.add(message=line["message"], is_metrics=True).data.update(line["data"])
        elif kind == "progress":
            # Steps that are taken again were told: the job is not further back than it was.
            if line["step"] >= self._step:
                self._progress = _progress(line)
                report.progress.CopyFrom(self._progress)
        elif kind == "resolved":
            report.resolved_hyperparameters.Clear()
            report.resolved_hyperparameters.update(line["hyperparameters"])

    def _take_checkpoint(self, line: Mapping[str, Any], report: pb.ReportJobRequest) -> bool:
        step = line["step"]
        if step <= self._checkpoint_step:
            return True
        try:
            digest = self._push(Path(line["folder"]))
        except GraftClientError as error:
            raise_lost(error, self._keeper)
            if not self._is_given_up(error):
                self.problem = error
                return False
            message = f"The checkpoint after step {step} is not kept: {error}"
            report.events.add(message=message[:10_000], level=pb.JOB_EVENT_LEVEL_WARN)
        else:
            report.checkpoints.add(step=step, version_digest=digest, metrics=line["metrics"])
        self._checkpoint_step, self._pushing = step, Patience()
        return True

    def _is_given_up(self, error: GraftClientError) -> bool:
        """A training does not wait for the version of one of its checkpoints for ever."""
        if is_final(error):
            return True
        if is_locked_out(error):
            return False
        try:
            self._pushing.failed(error)
        except GivenUp:
            return True
        return False


class LeaseGone(Exception):
    """The job is not this worker's any more: nothing is to be said of it."""


def raise_lost(error: GraftClientError, keeper: Keeper) -> None:
    """Raises ``LeaseGone`` where the server says so."""
    keeper.failed(error)
    if error.reason == LEASE_LOST:
        raise LeaseGone from error


def _progress(line: Mapping[str, Any]) -> pb.JobProgress:
    progress = pb.JobProgress(step=line["step"], num_steps=line["num_steps"], trained_tokens=line["trained_tokens"])
    if line["remaining_seconds"] is not None:
        progress.remaining.FromMilliseconds(round(line["remaining_seconds"] * 1000))
    return progress
