"""Who may work on a job, without comparing any two clocks.

Each claim raises the job's fence, each word of its worker the beat behind it. A server looks at both from time to time
and remembers when, by its own monotonic clock, it first saw them: what did not move for the whole term is given up, by
compare-and-set, so that a word that comes meanwhile wins. A server that began now has seen nothing yet and waits a
whole term; a wall clock that is moved moves nothing here (Gray and Cheriton, "Leases", SOSP 1989; fencing tokens:
Kleppmann, "How to do distributed locking", 2016).

A worker stops by itself when the last word of its own that was answered was *sent* longer ago than `Term.worker`, by
its monotonic clock. It was sent before it was seen, so the worker has stopped when the server gives it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graft.server.errors import LeaseLost

# Between a worker's stop and the next worker's start: for clocks that run unevenly, and for processes to end.
_MARGIN = 1.5
# A job that takes so many workers with it, without a checkpoint between, is the cause.
MAX_LOSSES = 3


@dataclass(frozen=True, kw_only=True)
class Term:
    """How long a worker may be silent: what it is told, and what the server waits."""

    worker_seconds: float

    @property
    def server_seconds(self) -> float:
        return self.worker_seconds * _MARGIN

    @property
    def look_seconds(self) -> float:
        """How often a server looks."""
        return self.worker_seconds / 4


@dataclass(frozen=True, kw_only=True)
class Beat:
    """The last that was heard of a job's worker."""

    fence: int
    beat: int


class Sightings:
    """What one server saw last of each job that is held, and since when."""

    def __init__(self, term: Term) -> None:
        self._term = term
        self._seen: dict[str, tuple[Beat, float]] = {}

    def look(self, held: Mapping[str, Beat], *, now: float) -> dict[str, Beat]:
        """`held` is all that workers have now; `now` is monotonic, in seconds. Returns those to be given up."""
        seen = {}
        for job, beat in held.items():
            before = self._seen.get(job)
            seen[job] = before if before is not None and before[0] == beat else (beat, now)
        self._seen = seen
        return {job: beat for job, (beat, since) in seen.items() if now - since >= self._term.server_seconds}

    @property
    def heard_at(self) -> dict[str, float]:
        """When each job's last beat was first seen, by the clock of `look`."""
        return {job: since for job, (_, since) in self._seen.items()}


def check_fence(job: str, *, fence: int, holds: bool, current: int) -> None:
    """That the worker with `fence` still has the job. Raises `LeaseLost`."""
    if not holds or fence != current:
        raise LeaseLost(f"the worker does not have {job} any more: it was given up, paused or cancelled; stop working")
