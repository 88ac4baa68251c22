"""Which charts a training's ``metrics.jsonl`` makes: its losses, whatever its objective tells, and how fast it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from graft.training.report.chart import Curve, chart
from graft.training.report.page import Section, paragraph

_LOSS, _VALIDATION = "loss", "validation_"
_UNITS = {
    "gradient_norm": "2-norm of the gradient",
    "tokens_per_second": "tokens per second",
}
"""What tells how a training runs."""
_COUNTED = frozenset(("step", "seconds", "tokens", "supervised_tokens", "skipped", "memory", "mfu", _LOSS))
"""Told in figures, or drawn by name."""


def curves(rows: Sequence[Mapping[str, Any]]) -> Section:
    """Whether it learned: the loss, and whatever its objective tells. Of the lines of ``metrics.jsonl``."""
    loss = _curve(rows, _LOSS)
    if not loss.steps:
        return Section(title="Curves", body=paragraph("no step told a loss that is a number", kind="bad"))
    named = {name: _curve(rows, name) for name in _names(rows) if name not in _UNITS}
    shown = [replace(loss, name="each step", is_faint=True), _smooth(loss)]
    held_out = named.pop(_VALIDATION + _LOSS, None)
    shown += [] if held_out is None else [replace(held_out, name="held out")]
    charts = [chart(shown, unit="loss (nats)")]
    charts += [chart(group, unit=unit) for unit, group in _groups(named).items()]
    return Section(title="Curves", body="".join(charts))


def speed(rows: Sequence[Mapping[str, Any]]) -> Section:
    """How it ran."""
    names = [name for name in _names(rows) if name in _UNITS]
    charts = [chart([_curve(rows, name)], unit=_UNITS[name]) for name in names]
    return Section(title="How it ran", body="".join(charts) or paragraph("no step told it", kind="quiet"))


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of what is a number in some row, as they come first."""
    found = {name: None for row in rows for name, value in row.items() if isinstance(value, int | float)}
    return [name for name in found if name not in _COUNTED]


def _curve(rows: Sequence[Mapping[str, Any]], name: str) -> Curve:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return Curve(
        name=name,
        steps=[step for step, _ in points],
        values=[value for _, value in points],
        is_measured=len(points) < len(rows),
    )


def _smooth(curve: Curve) -> Curve:
    """Without the pull of where it began (Kingma & Ba 2015, arXiv:1412.6980, §3)."""
    keep = 1 - 1 / min(50, max(3, len(curve.values) / 15))
    values, mean, weight = [], 0.0, 0.0
    for value in curve.values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + 1 - keep
        values.append(mean / weight)
    return Curve(name="running mean", steps=curve.steps, values=values)


def _groups(named: Mapping[str, Curve]) -> dict[str, list[Curve]]:
    """What shares a unit shares a chart: ``rewards/chosen`` and ``rewards/rejected``, a metric and it held out."""
    groups: dict[str, list[Curve]] = {}
    for name, curve in named.items():
        whole = name.removeprefix(_VALIDATION)
        family = whole.partition("/")[0] if "/" in whole else whole
        groups.setdefault(family.replace("_", " "), []).append(curve)
    return groups
