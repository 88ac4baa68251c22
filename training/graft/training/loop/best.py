"""The best that was measured on what is held out: when a run ends by it, and with which weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class Best:
    """Kept in checkpoints, so that a resumed run ends where it would have ended."""

    patience: int | None = None
    """Measurements in a row without a better one that end the run (Prechelt 1998, "Early Stopping - But When?")."""
    loads: bool = False
    """Whether the run ends with the best weights; their checkpoint stays until then."""
    loss: float | None = None
    step: int = 0
    """Steps that were done then."""
    num_worse: int = 0
    """Measurements since."""

    @property
    def is_over(self) -> bool:
        return self.patience is not None and self.num_worse >= self.patience

    @property
    def kept(self) -> int | None:
        """Of the checkpoint that stays, if any."""
        return self.step if self.loads and self.loss is not None else None

    def take(self, step: int, loss: float) -> bool:
        """Whether this loss, after so many steps, is the best so far."""
        if math.isfinite(loss) and (self.loss is None or loss < self.loss):
            self.loss, self.step, self.num_worse = loss, step, 0
            return True
        self.num_worse += 1
        return False

    def state(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {"loss": self.loss, "step": self.step, "num_worse": self.num_worse}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.loss, self.step, self.num_worse = state["loss"], int(state["step"]), int(state["num_worse"])
