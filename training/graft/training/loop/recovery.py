"""What a run does with the steps that its guard does not take."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from graft.training.errors import Diverged
from graft.training.loop.checkpoint import CheckpointWriter
from graft.training.loop.guard import Guard, Verdict
from graft.training.loop.resuming import take_over
from graft.training.loop.step import Step

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Leaves a step out, brings the step's state back to the last checkpoint, or ends the run. At its end it tells what
    was left out.
    """

    guard: Guard
    step: Step
    folder: Path
    checkpoints: CheckpointWriter

    def accepts(self, number: int, loss: float, norm: float) -> bool:
        """Whether the weights are to be moved by a step of this loss and this gradient. Raises ``Diverged``."""
        verdict = self.guard.judge(loss, norm, step=number)
        if verdict is Verdict.TAKE:
            return True
        if verdict is Verdict.SKIP:
            self._warn("step %d is left out: its loss is %g and its gradient %g", number, loss, norm)
        elif verdict is Verdict.GO_BACK and self._go_back():
            self._warn("step %d: too many left out in a row, back to the last checkpoint", number)
        elif verdict is Verdict.GIVE_UP or not (math.isfinite(loss) and math.isfinite(norm)):
            raise Diverged(
                f"the loss is {loss} and the gradient {norm} at step {number}, and so it was in the steps before; "
                "lower the learning rate or look at the data, and start anew in another folder: what is resumed keeps "
                "its rate."
            )
        else:
            self._warn(
                "step %d: the loss stays at %g and there is no checkpoint to go back to; on from here", number, loss
            )
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if steps := self.guard.skipped:
            told = ", ".join(map(str, steps[:20])) + (" …" if len(steps) > 20 else "")
            self._warn(
                "%d steps were left out, as their loss or gradient was no number or stood out: %s. Look at their data; "
                "--spike-sigmas 0 takes all whose loss is a number.",
                self.guard.num_skipped,
                told,
            )

    def _go_back(self) -> bool:
        self.checkpoints.wait()
        return take_over(self.folder, self.step.state, self.step.layout) is not None

    def _warn(self, text: str, *values: object) -> None:
        """Once for all processes."""
        if self.step.layout.is_first:
            _log.warning(text, *values)
