"""OpenAI's method `supervised`: rows of messages, as `graft finetune` learns them."""

from __future__ import annotations

from dataclasses import asdict, replace

from graft.training.finetune.job import Finetune
from graft.training.finetune.settings import FinetuneSettings
from graft.training.worker.folder import JobFolder
from graft.training.worker.hearing import Hearing
from graft.training.worker.methods.adapting import (
    LARGE,
    carried_out,
    check_way,
    is_first,
    numbers_of,
    record_of,
    settings_of,
)
from graft.training.worker.methods.hyperparameters import Numbers
from graft.training.worker.planning import planned
from graft.training.worker.tell import Tell
from graft.training.worker.trained import Trained
from graft.v1 import job_pb2 as pb

_LEARNING_RATE, _LEARNING_RATE_OF_LARGE = 2e-3, 2e-4
"""What a multiplier of 1 stands for, as the setting's help has it."""


def train(job: JobFolder, tell: Tell) -> Trained:
    """Raises ``TrainingError``, ``GraftError``: one line says what to change."""
    numbers = numbers_of(job)
    training = _training(job, numbers)
    record = record_of(job, training.base, training)
    training = replace(training, hearing=Hearing.of(job, tell, record))
    if is_first():
        tell.resolved(numbers.told)
    settings = asdict(training.settings)
    return carried_out(job, training, {"method": "supervised", **numbers.told, "settings": settings})


def plan(job: JobFolder, tell: Tell) -> pb.JobPlan:
    """What ``train`` would do. Raises what it does before it begins."""
    numbers = numbers_of(job)
    training = _training(job, numbers)
    tell.resolved(numbers.told)
    return planned(training, tried=job.path / "tried")


def _training(job: JobFolder, numbers: Numbers) -> Finetune:
    base = job.read_base()
    rate = _LEARNING_RATE_OF_LARGE if base.num_parameters >= LARGE else _LEARNING_RATE
    settings = FinetuneSettings.from_mapping(settings_of(job, base, numbers, learning_rate=rate))
    training = Finetune(base=base, data=job.training_file, settings=settings, work=job.work, job=job.id)
    check_way(training)
    return training
