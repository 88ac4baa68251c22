"""The optimizer of what a method trains."""

from __future__ import annotations

from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError
from graft.training.loop.optim import MakeOptimizers, RateOf, adamw, adamw_8bit

_BETAS = (0.9, 0.999)


def optimizers_of(settings: AdaptSettings, rate_of: RateOf) -> MakeOptimizers:
    """By the setting ``optim``."""
    decay = settings.weight_decay
    if settings.optim == "adamw":
        return adamw(weight_decay=decay, betas=_BETAS, rate_of=rate_of)
    is_paged = settings.optim.startswith("paged")
    return adamw_8bit(weight_decay=decay, betas=_BETAS, rate_of=rate_of, is_paged=is_paged)


def check_optimizer(settings: AdaptSettings, device: str) -> None:
    """Raises ``ConfigurationError`` where a device has not what an optimizer needs."""
    if settings.optim.startswith("paged") and device != "cuda":
        raise ConfigurationError(
            f"setting 'optim' has the value {settings.optim!r}: its state lies in memory that a GPU's driver moves "
            f"between the GPU and the host, and this training computes on the {device}: take adamw_8bit or adamw."
        )
