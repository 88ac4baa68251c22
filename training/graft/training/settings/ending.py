"""How what is held out may end a training, and choose its weights."""

from __future__ import annotations

from typing import Any, Protocol

from graft.training.errors import ConfigurationError
from graft.training.settings.limits import at_least
from graft.training.settings.settings import setting

ENDING = ("early_stopping_patience", "load_best_model_at_end")


class Ending(Protocol):
    """Settings of a training that has these two."""

    @property
    def early_stopping_patience(self) -> int | None: ...

    @property
    def load_best_model_at_end(self) -> bool: ...


def patience() -> Any:
    """A field."""
    return setting(None, "end when what is held out was measured so often in a row without being better", at_least(1))


def loads_best() -> Any:
    """A field."""
    return setting(False, "end with the weights that were best on what is held out; their checkpoint stays")


def ends_by_measure(settings: Ending) -> bool:
    """Whether what is held out decides the result."""
    return settings.early_stopping_patience is not None or settings.load_best_model_at_end


def check_holds_out(settings: Ending, *, holds_out: bool, remedy: str) -> None:
    """Raises ``ConfigurationError`` where nothing is held out that could decide."""
    asked = [name for name in ENDING if getattr(settings, name)]
    if asked and not holds_out:
        raise ConfigurationError(f"setting {asked[0]!r} looks at what is held out, and nothing is: add {remedy}.")
