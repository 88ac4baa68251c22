"""A job as it is shown: all that was asked, and what it makes."""

from __future__ import annotations

import argparse

import pytest

from graft.cli.commands import jobs
from graft.cli.fine_tuning.following import outcome
from graft.cli.fine_tuning.texts import job_text, jobs_table
from graft.v1 import file_pb2, job_pb2

NAME = "ft:tiny:default:dates:01m8"


def full() -> job_pb2.Job:
    job = job_pb2.Job(id="ftjob-1", state=job_pb2.JOB_STATE_RUNNING, adapter="ft-01m8", fine_tuned_model=NAME)
    job.spec.MergeFrom(
        job_pb2.JobSpec(method=job_pb2.JOB_METHOD_REINFORCEMENT, model="tiny", suffix="dates", n_evals=7, dry_run=True)
    )
    job.spec.grader.update({"type": "multi", "name": "both", "graders": {"a": {"type": "string_check"}}})
    job.spec.gate.validation_loss.SetInParent()
    job.spec.gate.min_gain_over_base = 0.25
    job.spec.gate.canary.share_percent = 10
    job.spec.from_checkpoint = "ftjob-0:20"
    job.start.MergeFrom(job_pb2.JobStart(adapter="ft-0", version_digest="sha256:" + "ab" * 32))
    return job


def test_all_that_was_asked_is_shown() -> None:
    text = job_text(full(), [], {}, {})
    for words in (
        NAME, "ft-01m8", "suffix", "dates", "n_evals", "7", "dry run", "multi", "both", "validation_loss",
        "min_gain_over_base 0.25", "canary.share_percent 10", "ftjob-0:20", "ft-0 sha256:abab",
    ):  # fmt: skip
        assert words in text, words
    assert text.count(NAME) == 1


def test_the_list_names_the_model_that_is_called_and_the_base() -> None:
    header, row = jobs_table([full()]).splitlines()
    assert header.split()[-2:] == ["BASE", "MODEL"] and row.split()[-2:] == ["tiny", NAME]


class Server:
    """With a job that has told much since its last evaluation."""

    def get_job(self, job: str) -> job_pb2.Job:
        return job_pb2.Job(id=job, state=job_pb2.JOB_STATE_RUNNING)

    def job_checkpoints(self, job: str) -> list[job_pb2.JobCheckpoint]:
        return []

    def job_events(self, job: str, *, limit: int | None = None) -> list[job_pb2.JobEvent]:
        events = [job_pb2.JobEvent(number=number, is_metrics=True) for number in range(1, 101)]
        for event in events:
            event.data.update({"step": event.number, "train_loss": 0.5})
        events[0].data.update({"valid_loss": 0.125})
        return events[::-1][:limit]

    def get_file(self, file: str) -> file_pb2.File:
        raise AssertionError(file)


def test_each_metric_is_shown_however_long_ago_it_was_told() -> None:
    _, text = jobs._show(Server(), argparse.Namespace(job="ftjob-1"))  # type: ignore[arg-type]
    assert "train_loss 0.5" in text and "valid_loss 0.125" in text


@pytest.mark.parametrize("has_gate", [True, False])
def test_the_last_line_tells_what_the_gate_has_said(has_gate: bool) -> None:
    job = job_pb2.Job(id="ftjob-1", state=job_pb2.JOB_STATE_SUCCEEDED, fine_tuned_model=NAME)
    job.result.version_digest = "sha256:1"
    verdict = "The gate is not passed, and dates:stable does not move: no gain over the base"
    if has_gate:
        job.spec.gate.validation_loss.SetInParent()
    events = [job_pb2.JobEvent(message=one) for one in ("The job has succeeded", verdict, "Step 1")]
    events[1].data.update({"stage": "refused"})
    text = outcome(job, events)
    assert text.endswith(f"graft chat --model {NAME}") is not has_gate
    assert (verdict in text) is has_gate
