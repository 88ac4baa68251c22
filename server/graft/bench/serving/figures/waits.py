"""Waits as callers see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(1, int(-(-len(ordered) * percent // 100))) - 1]


def greatest_over_least_mean(waits: Iterable[tuple[int, float]], *, enough: int) -> float:
    """Of the mean waits of all adapters with `enough` requests, the greatest ÷ the least.

    Raises `ValueError` where fewer than two adapters have enough.
    """
    by_adapter: dict[int, list[float]] = {}
    for adapter, wait in waits:
        by_adapter.setdefault(adapter, []).append(wait)
    means = [mean(found) for found in by_adapter.values() if len(found) >= enough]
    if len(means) < 2:
        raise ValueError(f"fewer than two adapters have {enough} requests")
    return max(means) / min(means)
