"""`graft bench training`: what it writes, and that both contenders learn alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graft.bench.training.comparison import Figure
from graft.bench.training.report import draw, is_met, table, write_json
from graft.cli.main import main

FIGURES = {
    "pretrain_vs_hf_trainer": Figure(value=1.3, unit="ratio", runs=(1.2, 1.3, 1.4)),
    "pretrain_peak_memory_vs_hf_trainer": Figure(value=0.9, unit="ratio", runs=(0.9,)),
    "pretrain_graft": Figure(value=4000.0, unit="tokens/s", runs=(4000.0,)),
}


def test_a_report_as_table_json_and_picture(tmp_path: Path) -> None:
    assert "| pretrain_vs_hf_trainer | 1.3 ratio | 1.2, 1.3, 1.4 | ≥ 1.2 |" in table(FIGURES)
    assert is_met("pretrain_vs_hf_trainer", FIGURES["pretrain_vs_hf_trainer"])
    assert not is_met("pretrain_peak_memory_vs_hf_trainer", FIGURES["pretrain_peak_memory_vs_hf_trainer"])
    write_json(FIGURES, tmp_path / "figures.json")
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["pretrain_graft"] == {"value": 4000.0, "unit": "tokens/s", "runs": [4000.0]}
    draw(FIGURES, tmp_path / "figures.png")
    assert (tmp_path / "figures.png").stat().st_size > 5000


@pytest.mark.slow
def test_both_learn_the_same_from_the_same(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert main(["bench", "training", "--pairs", "1", "--steps", "8", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    for name in ("pretrain_loss_vs_hf_trainer", "pretrain_mixed_length_loss_vs_hf_trainer"):
        assert found[name]["value"] == pytest.approx(1.0, abs=0.01)
    assert {"pretrain_vs_hf_trainer", "pretrain_mixed_length_vs_hf_trainer", "mfu"} <= found.keys()
    assert path.with_suffix(".png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "0"], "--pairs 0: must be at least 1"),
        (["--steps", "3"], "--steps 3: must be at least 8"),
        (["--json", "/nowhere/figures.json"], "there is no folder /nowhere"),
    ],
)
def test_what_cannot_be_measured(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "training", *arguments]) == 2
    assert message in capsys.readouterr().err
