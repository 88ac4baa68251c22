"""What decides the result of a training on a base."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt.methods.continued import digest_of
from graft.training.job.folder import BASE, DATA, Identity
from graft.training.job.lineage import data_digest
from graft.training.job.sources import Sources
from graft.training.loop.optim import Schedule
from graft.training.settings.ending import Ending, ends_by_measure
from graft.training.settings.settings import CONTROLS, ELSEWHERE, SCHEDULE, TOLD, TrainingSettings

_FREE = ELSEWHERE | CONTROLS | SCHEDULE | TOLD | {"gradient_accumulation_steps", "start"}


def identity(
    base: Base, form: ServingForm, data: Path | Sources, settings: TrainingSettings, schedule: Schedule, *, dp: int
) -> Identity:
    """Raises ``OSError`` where the data cannot be read."""
    values = {name: str(value) for name, value in vars(settings).items() if name not in _FREE}
    values["micro-batches per step"] = str(settings.gradient_accumulation_steps * dp)
    values |= {BASE: base.digest, "form": form.value, DATA: Sources.of(data).digest}
    start = getattr(settings, "start", None)
    if start is not None:
        values["start"] = digest_of(start)  # the same files are the same start, wherever they lie
    return Identity(values=values, schedule=schedule)


class _Measured(Ending, Protocol):
    @property
    def eval_steps(self) -> int | None: ...

    @property
    def validation(self) -> str | None: ...


def measured_on(settings: _Measured) -> dict[str, str]:
    """What is measured on, and when, where that decides the result. Raises ``OSError``."""
    if not ends_by_measure(settings):
        return {}
    file = "" if settings.validation is None else data_digest(Path(settings.validation))
    return {"eval_steps": str(settings.eval_steps), "validation": file}
