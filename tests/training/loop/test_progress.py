"""What a run says of its steps."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest

from graft.training.errors import NotWritten
from graft.training.loop import progress
from graft.training.loop.progress import LOSS_CURVE, METRICS, Progress


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


@pytest.mark.parametrize(
    "torn", [b'{"step": 2, "seco', b"\xc3", b"null\n", b'{"step": 2}\n', b'{"step": 2, "loss": 1.0, "tokens": 1']
)
def test_reading_21_a_line_that_a_crash_cut_off_goes(torn: bytes, tmp_path: Path) -> None:
    with Progress(tmp_path, num_steps=4) as told:
        for step in range(3):
            told.report(step, {"loss": 1.0, "tokens": 1})
    lines = (tmp_path / METRICS).read_bytes().splitlines(keepends=True)
    (tmp_path / METRICS).write_bytes(b"".join([*lines[:2], torn]))
    with Progress(tmp_path, num_steps=4, start=2) as told:
        for step in (2, 3):
            told.report(step, {"loss": 1.0, "tokens": 1})
    assert [json.loads(line)["step"] for line in (tmp_path / METRICS).read_text().splitlines()] == [0, 1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOSS_CURVE, METRICS]


def test_T20_a_full_disk_while_steps_are_told(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    message = r"metrics.jsonl could not be written: File too large; checkpoints stay"
    try:
        with pytest.raises(NotWritten, match=message), Progress(tmp_path, num_steps=1000) as told:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
            for step in range(1000):
                told.report(step, {"loss": 1.0, "tokens": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
