"""A training of a method on a base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Method
from graft.training.adapt.methods.catalog import method_of
from graft.training.adapt.settings import AdaptSettings
from graft.training.job.on_base import OnBase

SettingsT = TypeVar("SettingsT", bound=AdaptSettings)


@dataclass(frozen=True, kw_only=True)
class Adapting(OnBase[SettingsT]):
    """By rows or by preferences."""

    @property
    def form(self) -> ServingForm:
        """The folder's own form where ``graft quantize`` made it."""
        return self.base.form or self.settings.form

    def method(self) -> tuple[Method, Adaptable]:
        """What learns, and of which base. Raises ``ConfigurationError``, ``InvalidBase``."""
        base, method = Adaptable.of(self.base), method_of(self.settings)
        method.check(base, self.form)
        return method, base
