"""What a run says of its steps."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from graft.training import progress
from graft.training.loss_curve import METRICS
from graft.training.progress import Progress


def test_what_is_measured_between_is_no_part_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    with Progress(tmp_path, num_steps=2) as told:
        for step in range(2):
            now += 2.0
            with told.paused():
                now += 50.0
            told.report(step, {"loss": 1.0, "tokens": 100})
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [(line["seconds"], line["tokens_per_second"]) for line in lines] == [(2.0, 50.0)] * 2
