"""What is left of jobs on a worker's disk."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import grpc
import pytest

from graft.client import Client, NotFound
from graft.training.worker.supervising.leftovers import clear_ended
from graft.v1 import job_pb2 as pb


class Server:
    """Knows jobs by their states."""

    def __init__(self, **states: pb.JobState.ValueType) -> None:
        self._states = {f"ftjob-{name}": state for name, state in states.items()}

    def get_job(self, job: str) -> pb.Job:
        if job not in self._states:
            raise NotFound("no such job", code=grpc.StatusCode.NOT_FOUND)
        return pb.Job(id=job, state=self._states[job])


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """Each with its user's rows, and what its training said."""
    for name in ("done", "failed", "cancelled", "queued", "running", "strange"):
        folder = tmp_path / f"ftjob-{name}"
        (folder / "attempt-1").mkdir(parents=True)
        (folder / "work").mkdir()
        (folder / "training.jsonl").write_text("rows")
        for file in ("child.log", "spec.json"):
            (folder / "attempt-1" / file).write_text("said")
    return tmp_path


def test_of_jobs_that_have_ended_no_rows_stay(jobs: Path) -> None:
    server = Server(
        done=pb.JOB_STATE_SUCCEEDED,
        failed=pb.JOB_STATE_FAILED,
        cancelled=pb.JOB_STATE_CANCELLED,
        queued=pb.JOB_STATE_QUEUED,
        running=pb.JOB_STATE_RUNNING,
    )
    clear_ended(cast(Client, server), jobs)
    kept = {path.name.removeprefix("ftjob-") for path in jobs.iterdir()}
    assert kept == {"failed", "queued", "running", "strange"}, "what others may go on from stays"
    with_rows = {path.parent.name.removeprefix("ftjob-") for path in jobs.rglob("training.jsonl")}
    assert with_rows == {"queued", "running", "strange"}
    assert [path.name for path in (jobs / "ftjob-failed").rglob("*") if path.is_file()] == ["child.log"]
