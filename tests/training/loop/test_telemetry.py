"""What a run tells while it goes."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from graft.training.errors import ConfigurationError
from graft.training.loop.progress import METRICS, Gauge, Progress
from graft.training.loop.telemetry import Prometheus, TensorBoard


def test_prometheus_and_tensorboard_hear_what_the_file_holds(tmp_path: Path) -> None:
    prometheus = Prometheus(0)
    listeners = [prometheus, TensorBoard(tmp_path, start=0)]
    gauge = Gauge(flops_per_token=10.0, peak=1e9)
    with Progress(tmp_path, num_steps=2, gauge=gauge, listeners=listeners) as progress:
        progress.report(0, {"loss": 3.5, "tokens": 100, "gradient_norm": float("nan"), "skipped": 1})
        progress.report(1, {"loss": 3.0, "tokens": 50, "gradient_norm": 2.0, "skipped": 1, "validation_loss": 4.0})
        with urllib.request.urlopen(f"http://127.0.0.1:{prometheus.port}/metrics", timeout=10) as answer:
            told = answer.read().decode()
    first, second = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert first["gradient_norm"] is None and second["mfu"] == pytest.approx(second["tokens_per_second"] / 1e8)
    assert "graft_training_loss 3.0" in told and "graft_training_tokens 150.0" in told
    assert "graft_training_validation_loss 4.0" in told and "graft_training_skipped 1.0" in told
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == [3.5, 3.0]


def test_a_taken_port_says_so() -> None:
    first = Prometheus(0)
    with pytest.raises(ConfigurationError, match=f"metrics_port {first.port} cannot be listened on"):
        Prometheus(first.port)
    first.close()
