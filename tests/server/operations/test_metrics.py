"""The swap pause: which gap between tokens a load is answerable for."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from graft.server.engine.state import EngineState
from graft.server.errors import ParityFailed, ParityUnavailable
from graft.server.operations.metrics import Metrics, RequestMeter, SwapPause
from graft.server.runtime.tenant import ActingJob, on_behalf_of


@pytest.mark.parametrize(
    ("gaps_before", "load", "gaps_after", "seconds"),
    [
        ([(0.0, 5.0)], (6.0, 7.0), [(8.0, 12.0)], 0.0),
        ([(0.0, 0.1), (0.1, 0.3)], (0.2, 0.4), [(0.3, 0.8), (0.8, 2.0)], 0.5),
        ([(0.0, 0.2)], (0.1, 0.15), [], 0.2),
        ([], (0.1, 0.15), [(0.0, 0.9)], 0.9),
    ],
    ids=["beside", "overlapping", "around-before", "around-after"],
)
def test_only_gaps_that_overlap_the_load_count(
    gaps_before: list[tuple[float, float]],
    load: tuple[float, float],
    gaps_after: list[tuple[float, float]],
    seconds: float,
) -> None:
    pause = SwapPause()
    for gap in gaps_before:
        pause.gap(*gap)
    pause.loaded(*load)
    for gap in gaps_after:
        pause.gap(*gap)
    assert pause.seconds == pytest.approx(seconds)


def test_restarts_are_counted_once() -> None:
    metrics = Metrics(CollectorRegistry())
    for ready, num_restarts in ((True, 0), (False, 0), (True, 1), (False, 1), (True, 2)):
        metrics.engine_changed(EngineState(ready=ready, num_restarts=num_restarts))
    assert metrics.registry.get_sample_value("graft_engine_restarts_total") == 2
    assert metrics.registry.get_sample_value("graft_engine_ready") == 1


async def test_each_comparison_counts_once_by_its_end() -> None:
    metrics = Metrics(CollectorRegistry())

    async def verdict(error: Exception | None) -> None:
        if error is not None:
            raise error

    for compared in (True, True, False):
        await metrics.judged(verdict(None), compared=lambda compared=compared: compared)
    for error in (ParityFailed("drifted"), ParityUnavailable("no memory"), ValueError("a fault of ours")):
        with pytest.raises(type(error)):
            await metrics.judged(verdict(error), compared=lambda: True)
    counts = {
        outcome: metrics.registry.get_sample_value("graft_parity_checks_total", {"outcome": outcome})
        for outcome in ("passed", "failed", "unmeasured", "unavailable")
    }
    assert counts == {"passed": 2, "failed": 1, "unmeasured": 1, "unavailable": 1}


def test_what_a_job_asks_itself_is_no_waiting_of_users() -> None:
    """By it trainings give way to serving: else one waits for its own rollouts."""
    metrics = Metrics(CollectorRegistry())

    def answered(job: ActingJob | None) -> float | None:
        with on_behalf_of("acme", job):
            meter = RequestMeter(metrics, tenant="acme", entered_at=0.0, charge=lambda **tokens: None)
            meter.made(0, 0, 3)
        return metrics.registry.get_sample_value("graft_time_to_first_token_seconds_count")

    assert answered(None) == 1
    assert answered(ActingJob(id="ftjob-1", adapter="a", has_gate=False)) == 1
    assert answered(None) == 2
    assert metrics.registry.get_sample_value("graft_tokens_total", {"kind": "completion", "tenant": "acme"}) == 9


def test_free_space_is_that_of_the_file_system(tmp_path: Path) -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.watch_disk(tmp_path)
    told, size = shutil.disk_usage(tmp_path), metrics.registry.get_sample_value("graft_data_size_bytes")
    assert size == told.total
    assert 0 < (metrics.registry.get_sample_value("graft_data_free_bytes") or 0) <= told.total
    metrics.watch_disk(tmp_path / "gone")
    assert math.isnan(metrics.registry.get_sample_value("graft_data_free_bytes") or 0)
