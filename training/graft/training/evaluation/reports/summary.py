"""An evaluation's figures as plain values, which every report is written from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from graft.training.evaluation.running.outcome import DIRECT, Outcome, metric_of
from graft.training.evaluation.statistics.pairs import Comparison, compare
from graft.training.evaluation.tasks.task import Aggregation


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two outcomes on the same questions, and how they differ in the task's first metric."""

    task: str
    baseline: str
    candidate: str
    comparison: Comparison


def pairs(outcomes: Sequence[Outcome]) -> list[Paired]:
    """Each model against the first one in the same setting; each setting against the model's simplest one: fewest
    examples, direct, one path.
    """
    return [
        Paired(
            task=one.task.name,
            baseline=_label(other, one),
            candidate=_label(one, other),
            comparison=compare(other.marks(one.main_key), one.marks(one.main_key), seed=one.seed),
        )
        for one in outcomes
        for other in _compared_with(one, outcomes)
    ]


def _compared_with(one: Outcome, outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
    same_task = [
        other for other in outcomes if other.task.name == one.task.name and len(other.records) == len(one.records)
    ]
    first = next(other for other in same_task if other.setting == one.setting)
    if first.model != one.model:
        yield first
    own = [other for other in same_task if other.model == one.model]
    simplest = min(own, key=lambda other: (other.setting.shots, other.setting.reasoning != DIRECT, other.setting.votes))
    if simplest.setting != one.setting:
        yield simplest


def _label(one: Outcome, other: Outcome) -> str:
    if one.model == other.model:
        return f"{one.model} ({one.setting})"
    return one.model if one.setting == other.setting and one.setting.shots == 0 else f"{one.model} ({one.setting})"


def figure(one: Outcome, key: str | None = None) -> str:
    """A figure as people read it: percent with its interval, or the perplexity."""
    interval = one.interval(key)
    if metric_of(one.task, key or one.main_key).aggregation is Aggregation.PERPLEXITY:
        return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    return f"{100 * interval.mean:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything but the answers."""
    return {
        "outcomes": [
            {
                "model": one.model,
                "task": one.task.name,
                "setting": asdict(one.setting),
                "metric": one.main_key,
                "figures": {key: asdict(one.interval(key)) for key in one.keys},
                "num_questions": len(one.records),
                "num_refused": one.num_refused,
                "num_unanswered": len(one.unanswered),
                "seed": one.seed,
            }
            for one in outcomes
        ],
        "comparisons": [asdict(pair) for pair in pairs(outcomes)],
    }
