"""A training in a few figures, from the lines of its ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

_HELD_OUT = "validation_"
_DRAWN = ("logps/", "rewards/chosen", "rewards/rejected")
"""Of what is told of held-out pairs, what charts alone show."""


def summary(rows: Sequence[Mapping[str, Any]], *, learned: str = "tokens") -> dict[str, str]:
    """By name: steps, tokens, time, speed, peak memory, and where each loss began and ended. ``learned`` is what a loss
    is taken of.
    """
    if not rows:
        return {"steps": "none"}
    found = {
        "steps": f"{len(rows):,}",
        "tokens read": f"{sum(row.get('tokens', 0) for row in rows):,.0f}",
        f"{learned} learned": f"{sum(row.get('supervised_tokens', 0) for row in rows):,.0f}",
        "time in steps": _duration(sum(row.get("seconds", 0.0) for row in rows)),
    }
    speeds, memory = _values(rows, "tokens_per_second"), _values(rows, "memory")
    if speeds:
        found["speed"] = f"{median(speeds):,.0f} tokens/s (median)"
    if shares := _values(rows, "mfu"):
        found["of the devices' peak"] = f"{median(shares):.0%} (median)"
    if memory:
        found["memory"] = f"{max(memory) / 1e9:.2f} GB at most"
    if skipped := max(_values(rows, "skipped"), default=0):
        found["steps left out"] = f"{skipped:.0f}, whose loss or gradient stood out"
    losses = _values(rows, "loss")
    if losses:
        part = max(1, len(losses) // 10)
        found["loss"] = f"{_mean(losses[:part]):.4f} → {_mean(losses[-part:]):.4f} (first and last tenth of the steps)"
    held_out = {name.removeprefix(_HELD_OUT): None for row in rows for name in row if name.startswith(_HELD_OUT)}
    for name in held_out:
        if (values := _values(rows, _HELD_OUT + name)) and not name.startswith(_DRAWN):
            shown = f"{values[0]:.4f} → {values[-1]:.4f}" if len(values) > 1 else f"{values[0]:.4f}"
            found[f"held out: {name.rpartition('/')[2].replace('_', ' ')}"] = shown
    return found


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _duration(seconds: float) -> str:
    """As people say it: ``3.2 s``, ``4 min 5 s``, ``2 h 1 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
