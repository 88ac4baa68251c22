"""Waits, gaps and slopes."""

from __future__ import annotations

import pytest

from graft.bench.serving.figures.waits import greatest_over_least_mean, percentile
from graft.bench.serving.peers.graft_server import largest_gap
from graft.bench.serving.processes import BenchFailed
from graft.bench.serving.usage import cpu_seconds, resident_mb, slope


def test_percentile_is_the_nearest_rank() -> None:
    assert percentile([3.0, 1.0, 2.0, 4.0], 50) == 2.0
    assert percentile(list(range(1, 101)), 99) == 99
    assert percentile([5.0], 99) == 5.0


def test_means_of_rare_adapters_do_not_count() -> None:
    waits = [(0, 1.0), (0, 3.0), (1, 4.0), (1, 4.0), (2, 100.0)]
    assert greatest_over_least_mean(waits, enough=2) == 2.0
    with pytest.raises(ValueError, match="fewer than two"):
        greatest_over_least_mean(waits, enough=3)


def test_a_gap_counts_where_it_touches_the_window() -> None:
    streams = [[0.0, 1.0, 1.5, 4.0], [0.9, 1.1, 1.2]]
    assert largest_gap(streams, 1.05, 1.4) == 0.5
    assert largest_gap(streams, 0.95, 1.4) == 1.0
    assert largest_gap(streams, 1.05, 2.0) == 2.5
    with pytest.raises(BenchFailed):
        largest_gap([[1.0]], 0.0, 2.0)


def test_slope_of_a_line() -> None:
    assert slope([(x, 3.0 * x - 2.0) for x in range(10)]) == pytest.approx(3.0)
    assert slope([(1.0, 2.0)]) == 0.0


def test_this_process_uses_memory_and_time() -> None:
    import os

    assert 10 < resident_mb(os.getpid()) < 100_000
    assert cpu_seconds(os.getpid()) > 0
