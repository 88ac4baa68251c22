"""How a fine-tuning follows a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError
from graft.training.settings.limits import POSITIVE, SHARE, Limit
from graft.training.settings.settings import setting

if TYPE_CHECKING:  # flags are listed without torch
    from graft.training.adapt.teacher import Teacher
    from graft.training.objective.causal import CausalObjective
    from graft.training.objective.distillation import DecoderDistillation

_WEIGHT, _BETA, _TEMPERATURE = 0.5, 0.0, 2.0
_OWN = ("distillation_weight", "distillation_beta", "distillation_temperature")


@dataclass(frozen=True, kw_only=True)
class FollowingSettings(AdaptSettings):
    """Settings of a training that may have a teacher."""

    teacher: str | None = setting(
        None, "BASE or BASE,ADAPTER (a folder) of the same vocabulary, whose next-token distribution is learned, too"
    )
    distillation_weight: float | None = setting(
        None,
        f"the teacher's part of the loss, the rest is that of the rows' own tokens; default: {_WEIGHT}",
        Limit(holds=lambda part: 0 < part <= 1, text="above 0, and at most 1"),
    )
    distillation_beta: float | None = setting(
        None,
        "how far from the teacher is measured: 0 KL(teacher, student), 1 KL(student, teacher), between them the "
        f"generalised Jensen–Shannon divergence; default: {_BETA}",
        SHARE,
    )
    distillation_temperature: float | None = setting(
        None, f"softens both distributions; default: {_TEMPERATURE}", POSITIVE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        idle = [name for name in _OWN if getattr(self, name) is not None]
        if self.teacher is None and idle:
            raise ConfigurationError(f"setting {idle[0]!r} says how a teacher is followed; add teacher, or remove it.")


def objective_of(
    teacher: Teacher | None, settings: FollowingSettings, *, device: str, packing: bool, plain: CausalObjective
) -> CausalObjective | DecoderDistillation:
    """What is learned, ``plain`` where there is no teacher; one is loaded. Raises ``ConfigurationError``."""
    if teacher is None:
        return plain
    from graft.training.objective.distillation import DecoderDistillation
    from graft.training.objective.divergence import Divergence

    weight = settings.distillation_weight or _WEIGHT
    beta, temperature = settings.distillation_beta, settings.distillation_temperature
    return DecoderDistillation(
        teacher=teacher.load(settings, device=device, packing=packing),
        divergence=Divergence(beta=_BETA if beta is None else beta, temperature=temperature or _TEMPERATURE),
        weights={name: part for name, part in (("soft", weight), ("tokens", 1 - weight)) if part},
    )
