"""How long a training is and how its learning rate moves, by its settings."""

from __future__ import annotations

import math
from typing import Protocol

from graft.training.loop.optim import Schedule
from graft.training.settings.settings import TrainingSettings


class Epochs(Protocol):
    """Data that know how many steps it takes to see them."""

    def num_steps(self, epochs: float) -> int: ...


def num_steps_of(settings: TrainingSettings, data: Epochs) -> int:
    """Optimizer steps: what was said, or as many as so many epochs take."""
    return settings.max_steps or max(1, data.num_steps(settings.num_train_epochs))


def schedule_of(settings: TrainingSettings, data: Epochs) -> Schedule:
    num_steps = num_steps_of(settings, data)
    return Schedule(
        num_steps=num_steps,
        warmup_steps=math.ceil(num_steps * settings.warmup_ratio)
        if settings.warmup_steps is None
        else settings.warmup_steps,
        floor=settings.lr_min_ratio,
        shape=settings.lr_scheduler_type,
    )
