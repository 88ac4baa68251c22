"""What is measured when, and what the command refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from graft.bench.serving.measurements.measurements import MEASUREMENTS, NAMES, chosen, estimate
from graft.cli.main import main


def test_names_are_unique_and_only_keeps_the_order() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert [each.name for each in chosen(["R8", "R4"], quick=False)] == ["R4", "R8"]
    assert chosen(None, quick=False) == list(MEASUREMENTS)
    assert set(chosen(None, quick=True)) < set(MEASUREMENTS)


def test_more_pairs_and_larger_shapes_take_longer() -> None:
    few = estimate(list(MEASUREMENTS), num_pairs=2, cost=1.0)
    assert few < estimate(list(MEASUREMENTS), num_pairs=8, cost=1.0) < estimate(list(MEASUREMENTS), num_pairs=8, cost=4)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--only", "R4,R99"], "R99"),
        (["--form", "int3"], "int3"),
        (["--pairs", "0"], "between 1 and"),
        (["--json", "/nowhere/at/all.json"], "/nowhere/at"),
        (["--only", ","], "--only"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "lora", *arguments]) == 2
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_a_quick_run_takes_figures_and_draws_a_picture(tmp_path: Path) -> None:
    code = main(["bench", "lora", "--quick", "--pairs", "1", "--json", str(tmp_path / "figures.json")])
    assert code == 0
    assert '"R4_batch32_adapters8"' in (tmp_path / "figures.json").read_text()
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")
