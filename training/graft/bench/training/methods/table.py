"""The table of methods, for people and as figures."""

from __future__ import annotations

from collections.abc import Mapping

from graft.bench.training.comparison import Figure
from graft.bench.training.methods.measured import NEAR_NATS, Measured
from graft.bench.training.methods.task import NUM_QUESTIONS
from graft.training.runtime import markdown

SHARE, NORM = "share", "relative Frobenius norm"
_HEAD = (
    "method | trained parameters | peak memory | after libraries | tokens/s | accuracy | route to serving | "
    "its error | served accuracy | served as the reference says | but for near ties"
)


def table(rows: Mapping[str, Measured]) -> str:
    """Markdown, and below it what fell short."""
    shown = markdown.table(_HEAD, [_cells(row) for row in rows.values()])
    told = (
        f"{NUM_QUESTIONS} greedy answers each. As the reference says: every token is that of the trained adapter under "
        "peft, or of the new base under transformers. But for near ties: every served token stands at most "
        f"{NEAR_NATS} nats below the reference's first choice in its place; behind it, how far the worst one does."
    )
    missed = [f"{name}: {row.shortfall}" for name, row in rows.items() if row.shortfall is not None]
    return "\n\n".join([shown, told, *(["Fell short:\n" + "\n".join(missed)] if missed else [])])


def figures(rows: Mapping[str, Measured], *, before: float) -> dict[str, Figure]:
    """``METHOD_accuracy`` and the like, each of one run; what a row did not come to is left out."""
    found = {"base_accuracy": _figure(before, SHARE)}
    for name, row in rows.items():
        for figure, value, unit in _values(row):
            if value is not None:
                found[f"{name}_{figure}"] = _figure(value, unit)
    return found


def _values(row: Measured) -> list[tuple[str, float | None, str]]:
    found: list[tuple[str, float | None, str]] = []
    if (trial := row.trial) is not None:
        found += [
            ("parameters", trial.num_parameters, "parameters"),
            ("peak_memory", trial.peak_bytes * 1e-6, "MB"),
            ("own_memory", trial.own_bytes * 1e-6, "MB"),
            ("speed", trial.tokens_per_second, "tokens/s"),
        ]
    if (way := row.servable) is not None:
        found += [("route_error", way.error, NORM), ("route_nats", way.nats, "nats")]
    return [
        ("accuracy", row.accuracy, SHARE),
        *found,
        ("served_accuracy", row.served_accuracy, SHARE),
        ("served_equal", _share(row.num_equal), SHARE),
        ("served_near", _share(row.num_near), SHARE),
        ("served_below", row.below_nats, "nats"),
        ("four_bits_accuracy", row.accuracy_in_four_bits, SHARE),
        ("four_bits_error", None if row.in_four_bits is None else row.in_four_bits.error, NORM),
    ]


def _cells(row: Measured) -> list[str]:
    trial, way = row.trial, row.servable
    learned = ["–"] * 4
    if trial is not None:
        sizes = (f"{num / 1e6:,.0f} MB" for num in (trial.peak_bytes, trial.own_bytes))
        learned = [f"{trial.num_parameters:,}", *sizes, f"{trial.tokens_per_second:,.0f}"]
    near = "–" if row.num_near is None else f"{row.num_near}, {row.below_nats:.2g} nats"
    return [
        row.name,
        *learned,
        _percent(row.accuracy),
        (row.failure or "–") if way is None else way.told,
        _error(row),
        _percent(row.served_accuracy),
        "–" if row.num_equal is None else f"{row.num_equal} of {NUM_QUESTIONS}",
        near,
    ]


def _error(row: Measured) -> str:
    """Of a new base also that of four bits, which it is not served in."""
    way = row.servable
    if way is None:
        return "–"
    told = "none" if not way.is_compiled else f"{way.error:.1g}, {way.nats:.1g} nats"
    if row.in_four_bits is None:
        return told
    return f"{told}; in NF4 {row.in_four_bits.error:.2g}, accuracy {_percent(row.accuracy_in_four_bits)}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _share(num: int | None) -> float | None:
    return None if num is None else num / NUM_QUESTIONS


def _figure(value: float, unit: str) -> Figure:
    return Figure(value=value, unit=unit, runs=(value,))
