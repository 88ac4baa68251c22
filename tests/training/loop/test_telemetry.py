"""What a run tells while it goes."""

from __future__ import annotations

import importlib.util
import json
import sys
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from graft.training.errors import ConfigurationError
from graft.training.loop.progress import METRICS, Gauge, Progress
from graft.training.loop.telemetry import Prometheus, TensorBoard, check_report_to, listeners
from graft.training.settings.settings import TrainingSettings


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


def told(folder: Path, *, start: int = 0, **settings: Any) -> None:
    """Two steps, of which those hear that were asked for."""
    chosen = TrainingSettings.from_mapping(settings)
    check_report_to(chosen)
    with Progress(folder, num_steps=9, start=start, listeners=listeners(folder, chosen, start=start)) as progress:
        progress.report(start, {"loss": 3.5, "tokens": 100, "gradient_norm": float("nan")})
        progress.report(start + 1, {"loss": 3.0, "tokens": 50, "gradient_norm": 2.0})


@pytest.mark.parametrize("settings", [{"tensorboard": True}, {"report_to": "tensorboard"}, {"report_to": "none"}, {}])
def test_tensorboard_has_two_names(settings: dict[str, Any], tmp_path: Path) -> None:
    told(tmp_path, **settings)
    assert (tmp_path / "tensorboard").exists() == (settings not in ({}, {"report_to": "none"}))


@pytest.mark.parametrize("names", ["oak", "none,wandb", "prometheus"])
def test_who_cannot_be_told_is_named_with_those_who_can(names: str) -> None:
    with pytest.raises(ConfigurationError, match="must be tensorboard, wandb, both, or none"):
        TrainingSettings.from_mapping({"report_to": names})


def test_wandb_is_refused_at_the_start_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="wandb, which is not installed: pip install wandb"):
        told(tmp_path, report_to="wandb")


class Recorded(ModuleType):
    """The part of wandb's interface that is used."""

    class Error(Exception):
        pass

    Settings = SimpleNamespace

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: list[dict[str, Any]] = []
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.num_finished = 0
        self.refusal: str | None = None

    def init(self, **options: Any) -> Recorded:
        if self.refusal is not None:
            raise self.Error(self.refusal)
        self.begun.append(options)
        return self

    def log(self, row: dict[str, float], *, step: int) -> None:
        self.rows.append((step, row))

    def finish(self) -> None:
        self.num_finished += 1


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    module = Recorded()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(name=name))
    return module


def test_wandb_goes_on_with_the_same_run(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(tmp_path, report_to="wandb,tensorboard", learning_rate=0.5)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    told(tmp_path, report_to="wandb", start=2)
    first, second = recorded.begun
    assert first["id"] == second["id"] and (first["project"], second["project"]) == ("graft", "mine")
    assert first["resume"] == "allow" and first["config"]["learning_rate"] == 0.5 and first["dir"] == tmp_path
    assert [(step, row["loss"]) for step, row in recorded.rows] == [(0, 3.5), (1, 3.0), (2, 3.5), (3, 3.0)]
    assert "gradient_norm" not in recorded.rows[0][1] and recorded.num_finished == 2


def test_wandb_without_a_key_says_what_to_do(recorded: Recorded, tmp_path: Path) -> None:
    recorded.refusal = "api_key not configured (no-tty)"
    with pytest.raises(ConfigurationError, match=r"api_key not configured \(no-tty\)\. Run `wandb login`, .*=offline"):
        told(tmp_path, report_to="wandb")


def test_wandb_offline_holds_what_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb's own file, in LevelDB's log format: blocks of 32 KiB, records of a checksum, a length and a kind."""
    pytest.importorskip("wandb", reason="wandb is optional and not in the lock")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    told(tmp_path, report_to="wandb")
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    data, at, part, rows = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part, at = part + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # the whole of a record, or its last part
            record, part = wandb_internal_pb2.Record.FromString(part), b""
            if record.HasField("history"):
                values = {(one.key or one.nested_key[0]): one.value_json for one in record.history.item}
                rows.append((record.history.step.num, float(values["loss"]), "gradient_norm" in values))
    assert rows == [(0, 3.5, False), (1, 3.0, True)]
