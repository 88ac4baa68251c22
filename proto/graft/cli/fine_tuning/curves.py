"""What a job's metrics are: a curve of each, and which belong into one picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.v1 import job_pb2

_NOT_DRAWN = {"step", "total_steps"}
# A picture's title, and what the names of its curves hold; the first that fits takes a curve.
_TOPICS = (
    ("loss", ("loss",)),
    ("reward", ("reward", "score")),
    ("learning rate", ("learning_rate",)),
    ("accuracy", ("accuracy",)),
    ("divergence", ("kl",)),
)
FIRST = ("loss", "reward", "learning rate")
"""What is drawn unless something else is asked for."""


class Curves:
    """By metric and step; a step that is told again counts as it was told last."""

    def __init__(self, events: Iterable[job_pb2.JobEvent] = ()) -> None:
        self._values: dict[str, dict[float, float]] = {}
        self.num_steps: float | None = None
        """Of the whole training, where that was told."""
        for event in events:
            self.add(event)

    def add(self, event: job_pb2.JobEvent) -> None:
        """Take an event's metrics; others are passed over."""
        numbers = {name: one.number_value for name, one in event.data.fields.items() if one.HasField("number_value")}
        if not event.is_metrics or "step" not in numbers:
            return
        self.num_steps = numbers.get("total_steps", self.num_steps)
        for name in numbers.keys() - _NOT_DRAWN:
            self._values.setdefault(name, {})[numbers["step"]] = numbers[name]

    @property
    def names(self) -> list[str]:
        """All metrics; of one that is told of a part and of the whole (`full_…`) only the first."""
        return sorted(name for name in self._values if not name.startswith("full_") or name[5:] not in self._values)

    @property
    def last_step(self) -> float | None:
        return max((step for values in self._values.values() for step in values), default=None)

    def points(self, name: str) -> Sequence[tuple[float, float]]:
        """Steps, rising, and values; none of a metric that was not told."""
        return sorted(self._values.get(name, {}).items())

    def last(self, name: str) -> float | None:
        """The value at the last step that has one."""
        points = self.points(name)
        return points[-1][1] if points else None


def topics(names: Iterable[str]) -> dict[str, list[str]]:
    """Metrics by the picture that they belong into; one that fits nowhere has its own."""
    found: dict[str, list[str]] = {}
    for name in names:
        title = next((title for title, words in _TOPICS if any(word in name for word in words)), name)
        found.setdefault(title, []).append(name)
    order = [title for title, _ in _TOPICS]
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0]) if item[0] in order else 99, item[0])))


def chosen(names: Sequence[str], wanted: Sequence[str]) -> dict[str, list[str]]:
    """The pictures to draw: of the metrics whose names hold one of the `wanted` words; without any, the first three."""
    if not wanted:
        found = topics(names)
        return {title: curves for title, curves in found.items() if title in FIRST} or found
    return topics(name for name in names if any(word in name for word in wanted))
