"""How long a training is and how its learning rate moves, by its settings."""

from __future__ import annotations

import math

from graft.training.optim import Schedule
from graft.training.settings import TrainingSettings


def num_steps_of(settings: TrainingSettings, steps_per_epoch: int) -> int:
    """Optimizer steps: what was said, or so many epochs."""
    return settings.max_steps or max(1, math.ceil(steps_per_epoch * settings.num_train_epochs))


def schedule_of(settings: TrainingSettings, steps_per_epoch: int) -> Schedule:
    num_steps = num_steps_of(settings, steps_per_epoch)
    return Schedule(
        num_steps=num_steps,
        warmup_steps=math.ceil(num_steps * settings.warmup_ratio)
        if settings.warmup_steps is None
        else settings.warmup_steps,
        floor=settings.lr_min_ratio,
        shape=settings.lr_scheduler_type,
    )
