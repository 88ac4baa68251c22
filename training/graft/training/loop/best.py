"""The best that was measured on what is held out: when a run ends by it, and with which weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from graft.training.settings.ending import Ending, ends_by_measure

LOSS = "validation_loss"


@dataclass(kw_only=True)
class Best:
    """Kept in checkpoints, so that a resumed run ends where it would have ended."""

    patience: int | None = None
    """Measurements in a row without a better one that end the run (Prechelt 1998, "Early Stopping - But When?")."""
    loads: bool = False
    """Whether the run ends with the best weights; their checkpoint stays until then."""
    measure: str = LOSS
    """Its name among a step's metrics."""
    prefers_higher: bool = False
    value: float | None = None
    """The best so far."""
    step: int = 0
    """Steps that were done then."""
    num_worse: int = 0
    """Measurements since."""

    @classmethod
    def of(cls, settings: Ending, *, measure: str = LOSS, prefers_higher: bool = False) -> Self | None:
        """None where nothing is decided by it."""
        if not ends_by_measure(settings):
            return None
        return cls(
            patience=settings.early_stopping_patience,
            loads=settings.load_best_model_at_end,
            measure=measure,
            prefers_higher=prefers_higher,
        )

    @property
    def is_over(self) -> bool:
        return self.patience is not None and self.num_worse >= self.patience

    @property
    def kept(self) -> int | None:
        """Of the checkpoint that stays, if any."""
        return self.step if self.loads and self.value is not None else None

    def take(self, step: int, value: float) -> bool:
        """Whether this value, after so many steps, is better than all before."""
        if math.isfinite(value) and (self.value is None or self._is_better(value, self.value)):
            self.value, self.step, self.num_worse = value, step, 0
            return True
        self.num_worse += 1
        return False

    def state(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {"value": self.value, "step": self.step, "num_worse": self.num_worse}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.value, self.step, self.num_worse = state["value"], int(state["step"]), int(state["num_worse"])

    def _is_better(self, value: float, other: float) -> bool:
        return value > other if self.prefers_higher else value < other
