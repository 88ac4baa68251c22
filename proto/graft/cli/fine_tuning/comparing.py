"""Jobs side by side: the settings that differ, the last metrics, and the curves over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graft.cli.fine_tuning.curves import Curves, chosen, topics
from graft.cli.fine_tuning.texts import flat, method_of, shown, state_of
from graft.cli.plots.chart import Points, Style, chart
from graft.cli.terminal import table
from graft.client.fine_tuning.values import values_of
from graft.machine.control_characters import harmless

if TYPE_CHECKING:
    from graft.v1 import job_pb2

_WIDTH, _HEIGHT = 100, 14


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A job and what it told of its steps."""

    job: job_pb2.Job
    curves: Curves

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked, flat; of hyperparameters what `auto` became, where that is known."""
        from google.protobuf.json_format import MessageToDict

        spec = self.job.spec
        fields = MessageToDict(spec, preserving_proto_field_name=True)
        fields["method"] = method_of(self.job)
        if "seed" in fields:  # 64 bits are texts in JSON
            fields["seed"] = int(fields["seed"])
        found = flat({name: one for name, one in fields.items() if name != "hyperparameters"})
        return found | values_of(spec.hyperparameters) | values_of(self.job.resolved_hyperparameters)

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric at the last step that has it."""
        last = {name: self.curves.last(name) for name in self.curves.names}
        return {name: value for name, value in last.items() if value is not None}


def differing(compared: Sequence[Compared]) -> dict[str, list[Any]]:
    """Settings that are not the same in all, with each job's value; None where a job has none."""
    settings = [one.settings for one in compared]
    names = dict.fromkeys(name for one in settings for name in one)
    values = {name: [one.get(name) for one in settings] for name in names}
    return {name: found for name, found in values.items() if any(one != found[0] for one in found)}


def overlaid(compared: Sequence[Compared], wanted: Sequence[str]) -> dict[str, dict[str, Points]]:
    """By metric the curve of each job that told it. Without words that are `wanted`, the first three topics' metrics.

    Raises ValueError where a word fits no metric.
    """
    names = sorted({name for one in compared for name in one.curves.names})
    for word in wanted:
        if not any(word in name for name in names):
            there = f"there are {', '.join(names)}" if names else "none of the jobs has told any"
            raise ValueError(f"no metric is called {word!r}; {there}")
    metrics = [name for curves in chosen(names, wanted).values() for name in curves]
    keys = labels(compared)
    return {
        name: {key: points for key, one in zip(keys, compared, strict=True) if (points := one.curves.points(name))}
        for name in metrics
    }


def labels(compared: Sequence[Compared]) -> list[str]:
    """What a job is called here: its suffix where that is its alone, else the end of its id."""
    suffixes = [one.job.spec.suffix for one in compared]
    return [
        suffix if suffix and suffixes.count(suffix) == 1 else one.job.id[-8:]
        for suffix, one in zip(suffixes, compared, strict=True)
    ]


def as_value(compared: Sequence[Compared], wanted: Sequence[str]) -> dict[str, Any]:
    """For `--json`."""
    return {
        "jobs": [one.job.id for one in compared],
        "states": [state_of(one.job) for one in compared],
        "settings": differing(compared),
        "metrics": _side_by_side([one.metrics for one in compared]),
        "curves": {
            name: {key: [list(point) for point in points] for key, points in curves.items()}
            for name, curves in overlaid(compared, wanted).items()
        },
    }


def as_text(compared: Sequence[Compared], wanted: Sequence[str], style: Style) -> str:
    keys = labels(compared)
    rows = [("job", *(one.job.id for one in compared)), ("state", *(state_of(one.job) for one in compared))]
    rows += [(name, *map(_cell, values)) for name, values in differing(compared).items()]
    parts = [table(("", *map(harmless, keys)), rows)]
    found = _side_by_side([one.metrics for one in compared])
    ordered = [name for curves in topics(found).values() for name in curves]
    if ordered:
        parts.append(table(("LAST", *map(harmless, keys)), [(name, *map(_cell, found[name])) for name in ordered]))
    for name, curves in overlaid(compared, wanted).items():
        named = {harmless(key): points for key, points in curves.items()}
        parts.append("\n".join(chart(name, named, width=_WIDTH, height=_HEIGHT, style=style)))
    return "\n\n".join(part for part in parts if part)


def _side_by_side(metrics: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for one in metrics for name in one)
    return {name: [one.get(name) for one in metrics] for name in names}


def _cell(value: object) -> str:
    return "-" if value is None else harmless(shown(value))
