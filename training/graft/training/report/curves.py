"""Which charts a training's ``metrics.jsonl`` makes: its losses, whatever its objective tells, and how fast it was."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
_APART = {
    "rewards/accuracies": "pairs the right way round (share)",
    "rewards/margins": "margin between the rewards",
    "rewards": "rewards",
    "logps": "log-probabilities of answers (nats)",
}
"""What is drawn by itself though others begin as it does, and what families of metrics are."""
_COUNTED = frozenset(("step", "seconds", "tokens", "supervised_tokens", "skipped", "memory", "mfu", _LOSS))
"""Told in figures, or drawn by name."""
_NOISY = 30
"""Steps from which on a mean runs along."""


def curves(rows: Sequence[Mapping[str, Any]]) -> Section:
    """Whether it learned: the loss, and whatever its objective tells. Of the lines of ``metrics.jsonl``."""
    loss = _curve(rows, _LOSS)
    if not loss.steps:
        return Section(title="Curves", body=paragraph("no step told a loss that is a number", kind="bad"))
    named = {name: _curve(rows, name) for name in _names(rows) if name not in _UNITS}
    shown = [replace(loss, name="each step", is_faint=True), _smooth(loss, "running mean")]
    held_out = named.pop(_VALIDATION + _LOSS, None)
    shown += [] if held_out is None else [replace(held_out, name="held out")]
    charts = [chart(shown, unit="loss (nats)", width=960, height=260)]
    charts += [chart(group, unit=unit) for unit, group in _groups(named).items()]
    return Section(title="Curves", body=_side_by_side(charts))


def speed(rows: Sequence[Mapping[str, Any]]) -> Section:
    """How it ran."""
    found = {name: _curve(rows, name) for name in _names(rows) if name in _UNITS}
    charts = [chart(_with_mean(one), unit=_UNITS[name]) for name, one in found.items() if one.steps]
    return Section(
        title="How it ran", body=_side_by_side(charts) if charts else paragraph("no step told", kind="quiet")
    )


def _side_by_side(charts: Iterable[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of what is a number in some row, as they come first."""
    found = {name: None for row in rows for name, value in row.items() if isinstance(value, int | float)}
    return [name for name in found if name not in _COUNTED]


def _curve(rows: Sequence[Mapping[str, Any]], name: str) -> Curve:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None and math.isfinite(row[name])]
    return Curve(
        name=name,
        steps=[step for step, _ in points],
        values=[value for _, value in points],
        is_measured=len(points) < len(rows),
    )


def _with_mean(curve: Curve) -> list[Curve]:
    """Behind its running mean, where it is told at many steps."""
    if curve.is_measured or len(curve.steps) < _NOISY:
        return [curve]
    return [replace(curve, is_faint=True), _smooth(curve, curve.name)]


def _smooth(curve: Curve, name: str) -> Curve:
    """Without the pull of where it began (Kingma & Ba 2015, arXiv:1412.6980, §3)."""
    keep = 1 - 1 / min(50, max(3, len(curve.values) / 15))
    values, mean, weight = [], 0.0, 0.0
    for value in curve.values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + 1 - keep
        values.append(mean / weight)
    return Curve(name=name, steps=curve.steps, values=values)


def _groups(named: Mapping[str, Curve]) -> dict[str, list[Curve]]:
    """What shares a unit shares a chart: ``rewards/chosen`` and ``rewards/rejected``, a metric and it held out."""
    groups: dict[str, list[Curve]] = {}
    for name, curve in named.items():
        whole = name.removeprefix(_VALIDATION)
        family = whole.partition("/")[0] if "/" in whole and whole not in _APART else whole
        unit = _APART.get(family, family.replace("_", " "))
        part = whole.removeprefix(family).removeprefix("/")
        side = "held out" if whole != name else "" if part else "trained on"
        said = ", ".join(filter(None, (part, side)))
        groups.setdefault(unit, []).extend(_with_mean(replace(curve, name=said)) if curve.steps else [])
    return {unit: group for unit, group in groups.items() if group}
