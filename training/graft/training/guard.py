"""Which steps are taken: those that look like the ones before them. Pure.

A step whose loss or gradient is not finite, or stands six standard deviations above the last 128, is skipped (as the
skip-step optimizers of OLMo-core do; PaLM skipped such batches by hand, arXiv:2204.02311, §5.1). After several in a row
the run goes back to its last checkpoint, and on with the batches that come next.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import fmean, pstdev

WINDOW, MIN_SEEN, SIGMAS = 128, 32, 6.0


class Verdict(Enum):
    """What is to be done with a step."""

    TAKE = "take"
    SKIP = "skip"
    GO_BACK = "go back"
    GIVE_UP = "give up"


@dataclass(kw_only=True)
class Guard:
    """Judges one step after the other, the same in every process."""

    patience: int = 3
    """Skipped steps in a row before the run goes back."""
    max_returns: int = 2
    num_skipped: int = 0
    num_returns: int = 0
    _in_a_row: int = 0
    _seen: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def judge(self, loss: float, gradient_norm: float) -> Verdict:
        """What to do with a step of this loss and this gradient."""
        if self._is_usual(loss, gradient_norm):
            self._seen.append((loss, gradient_norm))
            self._in_a_row = 0
            return Verdict.TAKE
        self.num_skipped += 1
        self._in_a_row += 1
        if self._in_a_row < self.patience:
            return Verdict.SKIP
        self._in_a_row = 0
        self.num_returns += 1
        return Verdict.GIVE_UP if self.num_returns > self.max_returns else Verdict.GO_BACK

    def state(self) -> dict[str, object]:
        """As JSON can hold it."""
        return {
            "num_skipped": self.num_skipped,
            "num_returns": self.num_returns,
            "in_a_row": self._in_a_row,
            "seen": [list(pair) for pair in self._seen],
        }

    def restore(self, state: dict[str, object]) -> None:
        """Takes over what ``state`` gave."""
        self.num_skipped, self.num_returns, self._in_a_row = (
            int(str(state[name])) for name in ("num_skipped", "num_returns", "in_a_row")
        )
        seen = state["seen"]
        assert isinstance(seen, Sequence)
        self._seen.clear()
        self._seen.extend((float(loss), float(norm)) for loss, norm in seen)

    def _is_usual(self, loss: float, gradient_norm: float) -> bool:
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            return False
        if len(self._seen) < MIN_SEEN:
            return True
        return all(
            value <= fmean(before) + SIGMAS * max(pstdev(before), 1e-3 * abs(fmean(before)))
            for value, before in zip((loss, gradient_norm), zip(*self._seen, strict=True), strict=True)
        )
