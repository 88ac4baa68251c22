"""What is told of the engine while it runs, fails and is replaced; and how long the next one waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cause = Literal["start", "death", "silence"]
PROVEN_SECONDS = 20.0
"""An engine that still answers after so long ends a row of failures."""

# Before the first, second … try in a row; the last holds for all that follow. An engine that had answered is missed
# by its callers, and may have been killed from outside; one that never did will hardly do so at once.
_PAUSES_SECONDS: dict[Cause, tuple[float, ...]] = {
    "start": (1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
    "death": (0.0, 0.0, 1.0, 2.0, 5.0, 8.0),
    "silence": (0.0, 0.0, 1.0, 2.0, 5.0, 8.0),
}


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """What the supervisor tells. `num_failures` are those in a row (see `PROVEN_SECONDS`).

    `why` says why there is no engine and what happens next; it is empty while there is one.
    """

    ready: bool = False
    why: str = "the engine is starting"
    num_restarts: int = 0
    num_failures: int = 0
    cause: Cause | None = None

    @property
    def pause_seconds(self) -> float:
        """Before the next is started."""
        pauses = _PAUSES_SECONDS[self.cause or "death"]
        return pauses[min(max(self.num_failures, 1), len(pauses)) - 1]
