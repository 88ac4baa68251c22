"""The table of methods, for people and as figures."""

from __future__ import annotations

from collections.abc import Mapping

from graft.bench.training.comparison import Figure
from graft.bench.training.methods.measured import Measured
from graft.bench.training.methods.task import NUM_QUESTIONS
from graft.training.adapt.method import Route
from graft.training.runtime import markdown

SHARE = "share"
_HEAD = (
    "method | parameters | peak memory | tokens/s | accuracy | route to serving | its error | "
    "served accuracy | served as the reference says"
)


def table(rows: Mapping[str, Measured]) -> str:
    """Markdown."""
    return markdown.table(_HEAD, [_cells(name, row) for name, row in rows.items()])


def figures(rows: Mapping[str, Measured], *, before: float) -> dict[str, Figure]:
    """``METHOD_accuracy`` and the like, each of one run."""
    found = {"base_accuracy": _figure(before, SHARE)}
    for name, row in rows.items():
        found[f"{name}_accuracy"] = _figure(row.accuracy, SHARE)
        found[f"{name}_parameters"] = _figure(row.num_parameters, "parameters")
        found[f"{name}_peak_memory"] = _figure(row.trial.peak_bytes * 1e-6, "MB")
        found[f"{name}_speed"] = _figure(row.trial.tokens_per_second, "tokens/s")
        found[f"{name}_route_error"] = _figure(row.servable.error, "relative Frobenius norm")
        found[f"{name}_route_nats"] = _figure(row.servable.nats, "nats")
        if row.num_equal is not None and row.served_accuracy is not None:
            found[f"{name}_served_accuracy"] = _figure(row.served_accuracy, SHARE)
            found[f"{name}_served_equal"] = _figure(row.num_equal / NUM_QUESTIONS, SHARE)
    return found


def _cells(name: str, row: Measured) -> list[str]:
    way = row.servable
    served = "–" if row.served_accuracy is None else f"{row.served_accuracy:.0%}"
    equal = "–" if row.num_equal is None else f"{row.num_equal} of {NUM_QUESTIONS}"
    error = "–" if way.route not in (Route.EXACT, Route.SVD, Route.MERGE) else f"{way.error:.1g}, {way.nats:.1g} nats"
    return [
        name,
        f"{row.num_parameters:,}",
        f"{row.trial.peak_bytes / 1e6:,.0f} MB",
        f"{row.trial.tokens_per_second:,.0f}",
        f"{row.accuracy:.0%}",
        way.told,
        error,
        served,
        equal,
    ]


def _figure(value: float, unit: str) -> Figure:
    return Figure(value=value, unit=unit, runs=(value,))
