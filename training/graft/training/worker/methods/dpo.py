"""OpenAI's method `dpo`: pairs of answers, as `graft align` learns them (Rafailov et al. 2023, arXiv:2305.18290)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from graft.adapters.base.base import Base
from graft.training.preference.job import Align
from graft.training.preference.settings import AlignSettings
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
from graft.training.worker.methods.hyperparameters import AUTO
from graft.training.worker.tell import Tell
from graft.training.worker.trained import Trained

_LEARNING_RATE, _LEARNING_RATE_OF_LARGE = 2e-4, 5e-6
"""What a multiplier of 1 stands for, as the setting's help has it."""
_BETA = 0.1
"""What the paper has."""


def train(job: JobFolder, tell: Tell) -> Trained:
    """Raises ``TrainingError``, ``GraftError``: one line says what to change."""
    base, numbers = job.read_base(), numbers_of(job)
    rate = _LEARNING_RATE_OF_LARGE if base.num_parameters >= LARGE else _LEARNING_RATE
    asked = job.hyperparameters.get("beta", AUTO)
    beta = _BETA if asked == AUTO else float(asked)
    settings = AlignSettings.from_mapping(settings_of(job, base, numbers, learning_rate=rate, beta=beta))
    return learned(job, tell, base, settings, {**numbers.told, "beta": settings.beta})


def learned(
    job: JobFolder, tell: Tell, base: Base, settings: AlignSettings, told: Mapping[str, int | float | str]
) -> Trained:
    """What comes of a job's pairs; ``told`` are the hyperparameters of this run. Raises what ``train`` does."""
    training = Align(base=base, data=job.training_file, settings=settings, work=job.work, job=job.id)
    check_way(training)
    record = record_of(job, base, training)
    training = replace(training, hearing=Hearing.of(job, tell, record))
    if is_first():
        tell.resolved(told)
    return carried_out(job, training, {"method": job.method, **told, "settings": asdict(settings)})
