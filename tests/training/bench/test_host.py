"""What the benchmarks of the head and of the host's part make of the times that they find; never a time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import Tensor

from graft.bench.training import head, host
from graft.bench.training.comparison import TARGETS, Figure
from graft.bench.training.report import is_met
from graft.training.loop.run import Run
from graft.training.rootstock.recipe import llama_config, rootstock_5m
from graft.training.rootstock.tokenizer import build_tokenizer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """By which every look is one second later."""
    now = SimpleNamespace(seconds=0.0)

    def look() -> float:
        now.seconds += 1.0
        return float(now.seconds)

    monkeypatch.setattr(host, "time", SimpleNamespace(perf_counter=lambda: now.seconds, thread_time=look))
    return now


def test_a_share_is_what_was_outside(clock: SimpleNamespace) -> None:
    watch = host.Watch()

    def busy(seconds: float) -> None:
        clock.seconds += seconds

    inside = watch.timed(lambda seconds: watch.timed(busy)(seconds))  # one in the other counts once
    watch.report(0, {})
    inside(6.0)  # seven with the look at its beginning; each look takes one
    busy(2.0)
    watch.report(1, {})
    (share,) = watch.shares
    assert share == pytest.approx((1 - 7 / 11, 1 - 7 / 11))


def tiny(folder: Path, num_steps: int) -> Run:
    config = llama_config(build_tokenizer(256), width=64, num_layers=1)
    recipe = dataclasses.replace(
        rootstock_5m(num_steps=num_steps), config=config, num_rows=1, length=256, nf4_share=0.0
    )
    return recipe.run(folder)


def test_every_step_behind_the_first_has_a_share() -> None:
    backward = Tensor.backward
    shares = host.shares_of(tiny, 6)
    assert len(shares) == 6 - host.NUM_WARM and all(0 < one < 1 for pair in shares for one in pair)
    assert Tensor.backward is backward


def test_the_head_is_better_where_its_peers_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "SHAPES", {"4k": (8, 16, 32)})
    monkeypatch.setattr(head, "_peak_alone", lambda who, shape: 1_000_000)
    figures = head.head_figures(num_pairs=2)
    ours, theirs = figures["head_4k_graft"].runs, figures["head_4k_torch"].runs
    assert figures["head_4k_vs_torch"].runs == pytest.approx([b / a for a, b in zip(ours, theirs, strict=True)])
    assert figures["head_4k_whole_memory"] == Figure(value=1.0, unit="MB", runs=(1.0,))


@pytest.mark.parametrize(("name", "good", "bad"), [("head_4k_vs_torch", 1.1, 0.9), ("host_share_5m", 0.02, 0.04)])
def test_speed_is_to_be_above_and_the_hosts_share_below(name: str, good: float, bad: float) -> None:
    met = [is_met(name, Figure(value=value, unit="ratio", runs=(value,))) for value in (good, bad)]
    assert name in TARGETS and met == [True, False]
