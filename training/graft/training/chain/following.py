"""A stage's job on the server: found again or made, and followed to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from graft.client import Client, GraftClientError
from graft.client.fine_tuning.job_operation import ENDED, JobOptions
from graft.training.chain.plan import Stage
from graft.training.errors import TrainingError
from graft.v1 import job_pb2 as pb

_STEP_SECONDS = 20.0
"""Between two steps that are told of."""


class StageFailed(TrainingError, RuntimeError):
    """A job has ended without a model."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class Following:
    """Whoever comes again finds the jobs that are there. Every verb raises what the client does."""

    client: Client
    tell: Callable[[str], None]

    def known(self, stage: Stage) -> pb.Job | None:
        """The newest job of it that is under way or has succeeded."""
        for job in self.client.jobs(metadata=stage.metadata):
            if job.state not in ENDED or job.state == pb.JOB_STATE_SUCCEEDED:
                return job
        return None

    def made(self, stage: Stage, *, model: str, options: JobOptions) -> pb.Job:
        """A new one, with its files."""
        training, validation = (
            self.client.upload_file(content, filename=f"{stage.adapter}-{name}.jsonl").id
            for name, content in (("learned", stage.training), ("held-out", stage.validation))
        )
        asked = options.copy()
        asked["validation_file"] = validation
        return self.client.create_job(training, model=model, **asked)

    def ended(self, job: pb.Job) -> pb.Job:
        """When it has succeeded. Raises ``StageFailed``."""
        if job.state not in ENDED:
            self.tell(f"{job.id}: graft jobs watch, pause, resume and cancel know it by this name")
            self._watch(job.id)
            job = self.client.get_job(job.id)
        if job.state == pb.JOB_STATE_SUCCEEDED:
            return job
        state = pb.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
        raise StageFailed(f"{job.id} is {state}: {job.error.message or 'somebody ended it'} Again: a new job is made.")

    def _watch(self, job: str) -> None:
        """Its words, and of its steps one now and then."""
        told, step = 0.0, ""

        def silence(error: GraftClientError | None) -> None:
            self.tell(f"no word from the server, trying again: {error}" if error else "the server is heard again")

        for event in self.client.watch_job(job, on_silence=silence):
            if not event.is_metrics:
                self._tell(step, event.message)
                step = ""
                continue
            step = event.message
            if time.monotonic() - told > _STEP_SECONDS:
                self._tell(step)
                told, step = time.monotonic(), ""

    def _tell(self, *words: str) -> None:
        for one in filter(None, words):
            self.tell(f"  {one}")
