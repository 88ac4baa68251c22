"""The report on a GPU, rehearsed on the CPU: every part runs, and none takes another with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from graft.bench.training.gpu.report import PARTS, Report, read, told
from graft.cli.main import main


def test_what_a_part_said_before_it_fell_is_kept() -> None:
    said = [
        '{"name": "speed", "value": 1234.5678, "unit": "tokens/s"}',
        "a library's own word",
        "3",
        '{"lacks": "bitsandbytes"}',
        '{"name": "profile", "text": "99 % aten::mm"}',
        '{"name": "cut off',
    ]
    outcome = read(said)
    assert outcome.figures == [{"name": "speed", "value": 1234.5678, "unit": "tokens/s"}]
    assert (outcome.lacks, outcome.texts) == (["bitsandbytes"], {"profile": "99 % aten::mm"})
    text = told("pretrain", outcome)
    assert "## pretrain: failed" in text and "| speed | 1235 | tokens/s |" in text and "not here: bitsandbytes" in text


def test_a_part_that_fails_or_takes_too_long_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    monkeypatch.setitem(PARTS, "teller", 60.0)  # type: ignore[index]  # no such part is there
    monkeypatch.setitem(PARTS, "attention", 0.0)  # type: ignore[index]
    report = Report(["teller", "attention", "machine"], seconds=30, rehearse=True, path=path)
    report.execute()
    written = json.loads(path.read_text())
    assert written["rehearsal"] is True
    assert {name: one["status"] for name, one in written["parts"].items()}["attention"] == "left out"
    assert "No module named" in written["parts"]["teller"]["lacks"][0]
    assert written["parts"]["machine"]["figures"]


def test_without_a_gpu_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "gpu", "--json", str(tmp_path / "report.json")]) == 2
    assert "no CUDA device is here" in capsys.readouterr().err
    assert main(["bench", "gpu", "--rehearse", "--only", "haed"]) == 2
    assert "--only haed: the parts are machine, finetune, head, attention" in capsys.readouterr().err


@pytest.mark.slow
def test_every_part_runs_here(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    path = tmp_path / "report.json"
    assert main(["bench", "gpu", "--rehearse", "--json", str(path)]) == 0
    parts = json.loads(path.read_text())["parts"]
    assert list(parts) == list(PARTS)
    assert all(one["status"] == "ok" and (one["figures"] or one["lacks"]) for one in parts.values())
