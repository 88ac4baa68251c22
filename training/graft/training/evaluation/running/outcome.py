"""What came of an evaluation: each question's answer and marks, by model, task and setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from graft.training.evaluation.statistics.intervals import Interval, mean_of
from graft.training.evaluation.statistics.proportions import wilson
from graft.training.evaluation.tasks.task import Aggregation, Metric, Task

DIRECT, WORKED = "direct", "chain_of_thought"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a task is put: worked examples in the prompt, reasoning, and paths that vote."""

    shots: int
    reasoning: str = DIRECT
    votes: int = 1

    def __str__(self) -> str:
        told = [f"{self.shots}-shot"]
        if self.reasoning != DIRECT:
            told.append("chain of thought")
        if self.votes > 1:
            told.append(f"{self.votes} votes")
        return ", ".join(told)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One question: what was said and read as the answer, and marks by ``metric,reading``.

    ``problem`` is why it could not be asked or judged; its marks are those of a wrong answer. ``reason`` is what its
    checks found, or why nothing that was said is an answer.
    """

    index: int
    said: tuple[str, ...] = ()
    answer: str = ""
    right: tuple[str, ...] = ()
    marks: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One model on one task in one setting."""

    model: str
    task: Task
    setting: Setting
    records: tuple[Record, ...]
    seed: int

    @property
    def keys(self) -> tuple[str, ...]:
        """``metric,reading`` of every figure; the first is the task's own."""
        return keys(self.task)

    @property
    def main_key(self) -> str:
        return self.keys[0]

    @property
    def num_refused(self) -> int:
        """Questions that could not be asked or judged."""
        return sum(bool(record.problem) for record in self.records)

    @property
    def unanswered(self) -> tuple[Record, ...]:
        """Those that were asked and brought no answer."""
        return tuple(record for record in self.records if not (record.said or record.problem) and record.reason)

    def marks(self, key: str) -> list[float]:
        """Each question's mark, in the questions' order."""
        return [record.marks[key] for record in self.records]

    def interval(self, key: str | None = None) -> Interval:
        """The figure with its interval: of marks that are all 0 or 1 Wilson's, else a bootstrap's. A perplexity's are
        the exponents of those of the mean log-probability.
        """
        key = key or self.main_key
        marks = self.marks(key)
        found = mean_of(marks, seed=self.seed)
        if metric_of(self.task, key).aggregation is Aggregation.MEAN:
            if not set(marks) <= {0.0, 1.0}:
                return found
            low, high = wilson(round(sum(marks)), len(marks))
            return replace(found, low=low, high=high)
        perplexity = math.exp(-found.mean)
        return Interval(
            mean=perplexity,
            low=math.exp(-found.high),
            high=math.exp(-found.low),
            standard_error=perplexity * found.standard_error,
            num=found.num,
        )


def keys(task: Task) -> tuple[str, ...]:
    """``metric,reading`` of each of a task's figures, as in the harness' results."""
    return tuple(f"{metric.name},{reading.name}" for reading in task.readings for metric in task.metrics)


def metric_of(task: Task, key: str) -> Metric:
    """The metric of a figure."""
    return next(metric for metric in task.metrics if metric.name == key.partition(",")[0])


def find(outcomes: Sequence[Outcome], *, model: str, task: str, setting: Setting) -> Outcome | None:
    """One outcome of many, if it is there."""
    return next((one for one in outcomes if (one.model, one.task.name, one.setting) == (model, task, setting)), None)
