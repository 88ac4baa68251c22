"""Figures: medians, the flat JSON, targets, reasons for what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graft.bench.serving.figures.figures import Figure, Figures, median_of, target_of


def test_the_json_is_flat_and_names_value_unit_and_runs(tmp_path: Path) -> None:
    figures = Figures()
    figures.add("R4_batch1", median_of([0.9, 0.8, 0.95], "ratio"))
    figures.suffix = "_nf4"
    figures.add("R4_batch1", Figure(value=0.7, unit="ratio", runs=(0.7,)))
    figures.write(tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text()) == {
        "R4_batch1": {"value": 0.9, "unit": "ratio", "runs": [0.9, 0.8, 0.95]},
        "R4_batch1_nf4": {"value": 0.7, "unit": "ratio", "runs": [0.7]},
    }


def test_what_is_left_out_is_not_in_the_json_but_has_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    figures = Figures()
    figures.leave_out("llama", "llama-cpp-python is not installed")
    assert json.loads(figures.as_json()) == {}
    assert figures.left_out == {"llama": "llama-cpp-python is not installed"}
    assert "llama-cpp-python is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "met"),
    [
        ("prefill2048_adapter_ratio", 1.1, True),
        ("prefill2048_adapter_ratio", 1.11, False),
        ("zipf1000_throughput_ratio", 0.7, True),
        ("zipf1000_throughput_ratio_nf4", 0.69, False),
    ],
)
def test_targets_bound_from_the_right_side(name: str, value: float, met: bool) -> None:
    target = target_of(name)
    assert target is not None
    assert target.is_met(value) is met


def test_figures_without_a_target() -> None:
    assert target_of("R4_batch1") is None
    assert target_of("prefill_peak_above_rest_mb") is None
