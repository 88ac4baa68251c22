"""OpenAI's method `supervised`: rows of messages, as `graft finetune` learns them."""

from __future__ import annotations

from dataclasses import asdict

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
from graft.training.worker.tell import Tell
from graft.training.worker.trained import Trained

_LEARNING_RATE, _LEARNING_RATE_OF_LARGE = 2e-3, 2e-4
"""What a multiplier of 1 stands for, as the setting's help has it."""


def train(job: JobFolder, tell: Tell) -> Trained:
    """Raises ``TrainingError``, ``GraftError``: one line says what to change."""
    base, numbers = job.read_base(), numbers_of(job)
    rate = _LEARNING_RATE_OF_LARGE if base.num_parameters >= LARGE else _LEARNING_RATE
    settings = FinetuneSettings.from_mapping(settings_of(job, base, numbers, learning_rate=rate))
    training = Finetune(base=base, data=job.training_file, settings=settings, work=job.work, job=job.id)
    check_way(training)
    record = record_of(job, base, training)
    training = Finetune(
        base=base,
        data=job.training_file,
        settings=settings,
        work=job.work,
        job=job.id,
        hearing=Hearing.of(job, tell, record),
    )
    if is_first():
        tell.resolved(numbers.told)
    return carried_out(job, training, {"method": "supervised", **numbers.told, "settings": asdict(settings)})
