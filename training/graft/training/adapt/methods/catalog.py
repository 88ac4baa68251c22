"""Every method, by its name."""

from __future__ import annotations

from graft.training.adapt.method import Method
from graft.training.adapt.methods.lora import Lora
from graft.training.adapt.settings import AdaptSettings


def method_of(settings: AdaptSettings) -> Method:
    """What the setting ``method`` names."""
    return Lora(settings=settings)
