"""What the benchmark of several adapters makes of its times, and that it measures what it says; never a time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from graft.adapters.form import ServingForm
from graft.bench.training import together
from graft.training.model.loading import load_base


def test_a_ratio_is_apart_by_together(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_apart", lambda trainings: 6.0)
    monkeypatch.setattr(together, "_together", lambda joint, trainings: 1.5)
    figures = together.together_figures({"tiny": tiny_base}, num_pairs=2, num_steps=8)
    assert figures["together_vs_apart_8_tiny_4_short"].runs == (4.0, 4.0)
    assert figures["together_tiny_16x256_apart"].value == 6000.0
    assert len(figures) == 12


def test_both_ways_take_the_same_steps(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(together, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(together, "NUM_ADAPTERS", 2)
    made = []
    real = together._trainings

    def kept(*args: object) -> object:
        made.append(real(*args))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(together, "_trainings", kept)
    rows = together.Rows(num=2, shortest=4, longest=6)
    base = load_base(tiny_base, ServingForm.NF4)
    assert together._pairs(base, rows, num_pairs=1, num_steps=2) == ([1], [1])
    steps = [[one.step.number for one in trainings] for trainings in made]
    assert steps == [[together.NUM_WARM + 2] * 2] * 2
