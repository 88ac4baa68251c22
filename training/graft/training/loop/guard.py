"""Which steps are taken: those that look like the ones before them. Pure.

A step whose loss or gradient is no number, or stands so many standard deviations above the last 128, is left out (as
the skip-step optimizers of OLMo-core do; PaLM left out such batches by hand, arXiv:2204.02311, §5.1). After several in
a row the run goes back to its last checkpoint, and on with the batches that come next. What is as high then as before
was not made by the weights, which are older: it is the data's, or the form's in which they are computed with. So it is
taken from then on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import fmean, pstdev
from typing import Any

WINDOW, MIN_SEEN, SIGMAS = 128, 32, 6.0
LEAST_SHARE, LEAST = 0.05, 0.01
"""The standard deviation is taken to be at least this share of the mean, and this: a training that has learned its rows
by heart has losses that hardly differ, and a step a little above them harms nothing."""
MAX_REMEMBERED = 1000


class Verdict(Enum):
    """What is to be done with a step."""

    TAKE = "take"
    SKIP = "skip"
    GO_BACK = "go back"
    GIVE_UP = "give up"


@dataclass(kw_only=True)
class Guard:
    """Judges one step after the other, the same in every process that is given the same numbers."""

    sigmas: float = SIGMAS
    """0 leaves out only what is no number."""
    patience: int = 3
    """Steps left out in a row before the run goes back."""
    max_returns: int = 2
    """Within ``WINDOW`` taken steps; one more and the run gives up."""
    num_skipped: int = 0
    num_returns: int = 0
    skipped: list[int] = field(default_factory=list)
    """The first thousand steps that were left out."""
    last_is_number: bool = True
    """Whether loss and gradient of the last step were."""
    _in_a_row: int = 0
    _taken_since_return: int = 0
    _seen: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def judge(self, loss: float, gradient_norm: float, *, step: int) -> Verdict:
        """What to do with a step of this loss and this gradient."""
        is_number = self.last_is_number = math.isfinite(loss) and math.isfinite(gradient_norm)
        if is_number and not self._is_usual(loss, gradient_norm) and self._has_just_returned:
            self.begin_anew()
        if is_number and self._is_usual(loss, gradient_norm):
            return self._take(loss, gradient_norm)
        self.num_skipped += 1
        self.skipped += [step] if len(self.skipped) < MAX_REMEMBERED else []
        self._in_a_row += 1
        if self._in_a_row < self.patience:
            return Verdict.SKIP
        self._in_a_row = 0
        self.num_returns += 1
        self._taken_since_return = 0
        return Verdict.GIVE_UP if self.num_returns > self.max_returns else Verdict.GO_BACK

    @property
    def is_lost(self) -> bool:
        """Whether the last step gave no number, and too few before it did to say that its batch alone is to blame."""
        return not self.last_is_number and len(self._seen) < MIN_SEEN

    def begin_anew(self) -> None:
        """What is computed from now on is not to be compared with what was."""
        self._seen.clear()

    def state(self) -> dict[str, object]:
        """As JSON can hold it."""
        return {
            "num_skipped": self.num_skipped,
            "num_returns": self.num_returns,
            "skipped": self.skipped,
            "last_is_number": self.last_is_number,
            "in_a_row": self._in_a_row,
            "taken_since_return": self._taken_since_return,
            "seen": [list(pair) for pair in self._seen],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state`` gave, of this version or an earlier one."""
        self.num_skipped, self.num_returns = int(state["num_skipped"]), int(state["num_returns"])
        self.last_is_number = bool(state.get("last_is_number", True))
        self.skipped = [int(step) for step in state.get("skipped", ())]
        self._in_a_row, self._taken_since_return = int(state["in_a_row"]), int(state.get("taken_since_return", WINDOW))
        self._seen.clear()
        self._seen.extend((float(loss), float(norm)) for loss, norm in state["seen"])

    @property
    def _has_just_returned(self) -> bool:
        return self.num_returns > 0 and self._taken_since_return == 0

    def _take(self, loss: float, gradient_norm: float) -> Verdict:
        self._seen.append((loss, gradient_norm))
        self._in_a_row = 0
        self._taken_since_return += 1
        if self._taken_since_return >= WINDOW:
            self.num_returns = 0
        return Verdict.TAKE

    def _is_usual(self, loss: float, gradient_norm: float) -> bool:
        if len(self._seen) < MIN_SEEN or not self.sigmas:
            return True
        losses, norms = zip(*self._seen, strict=True)
        return loss <= self._limit(losses) and gradient_norm <= self._limit(norms)

    def _limit(self, before: Sequence[float]) -> float:
        mean = fmean(before)
        return mean + self.sigmas * max(pstdev(before), LEAST_SHARE * abs(mean), LEAST)
