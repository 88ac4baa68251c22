"""A gate that cannot be passed is told before anything is trained."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from graft.adapters.form import ServingForm
from graft.training.worker.folder import JobFolder
from graft.training.worker.supervising.attempt import Attempt, Ending
from graft.v1 import job_pb2

TRAINING, HELD_OUT = "file-training", "file-held-out"


def row(question: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "yes"}]
    return json.dumps({"messages": turns}) + "\n"


FILES = {TRAINING: row("Is grass green?") + row("Is coal black?"), HELD_OUT: row("Is coal black?")}


class Server:
    """Files, and how a job ended."""

    def __init__(self) -> None:
        self.ended: list[job_pb2.CompleteJobRequest] = []

    def acting(self, job: str, fence: int) -> Server:
        return self

    def close(self) -> None: ...

    def download(self, file: str, path: Path) -> None:
        path.write_text(FILES[file], encoding="utf-8")

    def complete(self, request: job_pb2.CompleteJobRequest, timeout: float) -> None:
        self.ended.append(request)


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (job_pb2.GateSpec(task="nonsense"), "there is no task 'nonsense'"),
        (
            job_pb2.GateSpec(validation_loss=job_pb2.ValidationLoss(), file=HELD_OUT),
            "line 1 of the gate's held-out rows asks what line 2 of the training file asks",
        ),
    ],
)
def test_nothing_is_trained_for_it(tmp_path: Path, gate: job_pb2.GateSpec, words: str) -> None:
    def command(attempt: Path) -> Sequence[str]:
        raise AssertionError("a training was begun")

    job, server = job_pb2.Job(id="ftjob-1"), Server()
    job.spec.training_file = TRAINING
    job.spec.gate.MergeFrom(gate)
    folder = JobFolder(
        path=tmp_path, job=job, adapter="dates", base=tmp_path, form=ServingForm.BF16, target="", fence=1
    )
    folder.write()
    lease = SimpleNamespace(seconds=60.0, beat_seconds=1.0, is_ending=False, is_over=False)
    keeper: Any = SimpleNamespace(lease=lease, state=job_pb2.JOB_STATE_RUNNING, is_lost=False, child=None)
    made = Attempt(server, folder, keeper, command=command, stop=threading.Event())  # type: ignore[arg-type]
    assert made.run() is Ending.FAILED
    (ended,) = server.ended
    assert words in ended.failure.message
