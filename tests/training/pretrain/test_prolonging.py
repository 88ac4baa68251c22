"""A training that is asked for more steps than at first (R7, reading 19)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from graft.training.errors import CheckpointError
from graft.training.loop.checkpoint import complete_checkpoints, step_of
from graft.training.loop.progress import METRICS
from tests.training.pretrain.making import ALONE, job, weights


@pytest.mark.parametrize("shape", ["constant", "wsd"])
def test_R7_a_training_is_prolonged_as_if_it_had_been_asked_for_more_at_first(
    shape: str, text: Path, tmp_path: Path
) -> None:
    same: dict[str, Any] = {"lr_scheduler_type": shape, "warmup_steps": 2, "ema_decay": 0.9}
    whole = job(tmp_path / "whole", text, max_steps=20, **same)
    whole.execute(ALONE, resume=False)
    parts = job(tmp_path / "parts", text, max_steps=10, **same)
    parts.execute(ALONE, resume=False)
    job(tmp_path / "parts", text, max_steps=20, **same).execute(ALONE, resume=True)
    expected, found = weights(whole.output), weights(parts.output)
    assert all(torch.equal(found[name], one) for name, one in expected.items())
    lines = [json.loads(line) for line in (parts.work / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(20))


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (
            {},
            {"max_steps": 12},
            r"6 steps that were taken on a cosine schedule to 6 steps, .* with --max-steps 6 ",
        ),
        (
            {"lr_scheduler_type": "constant", "warmup_ratio": 0.5},
            {"max_steps": 12},
            "a warm-up of 3 steps; of 12 steps it would be 6: add --warmup-steps 3",
        ),
        (
            {"lr_scheduler_type": "constant"},
            {"lr_scheduler_type": "cosine"},
            "lr_scheduler_type constant and .* cosine",
        ),
        ({"lr_scheduler_type": "constant"}, {"max_steps": 4}, "are more than 4: give --max-steps 6 or more"),
        ({"lr_scheduler_type": "constant", "save_steps": 4}, {"max_steps": 5}, "are more than 5: give --max-steps 6"),
    ],
)
def test_R7_where_the_schedule_does_not_allow_it_the_way_is_named(
    first: dict[str, Any], then: dict[str, Any], message: str, text: Path, tmp_path: Path
) -> None:
    job(tmp_path, text, **first).execute(ALONE, resume=False)
    other = job(tmp_path, text, **first | then)
    with pytest.raises(CheckpointError, match=message) as told:
        other.execute(ALONE, resume=True)
    assert f"--model {tmp_path / 'base'} trains on what came out" in str(told.value)
    assert complete_checkpoints(other.work)[-1].name == "checkpoint-6"


def test_reading_19_the_advice_of_R7_is_taken(text: Path, tmp_path: Path) -> None:
    ratio = {"lr_scheduler_type": "constant", "warmup_ratio": 0.5}
    first = job(tmp_path, text, **ratio)
    first.execute(ALONE, resume=False)
    job(tmp_path, text, max_steps=8, warmup_steps=3, spike_sigmas=9.0, **ratio).execute(ALONE, resume=True)
    assert [path.name for path in complete_checkpoints(first.work)] == ["checkpoint-6", "checkpoint-8"]
    further = job(tmp_path / "further", text, model=str(first.output), max_steps=1)
    further.execute(ALONE, resume=False)


def test_checkpoints_that_stay_for_ever_go_where_the_rates_part(text: Path, tmp_path: Path) -> None:
    """On WSD's way down they are those of a shorter training; what is resumed keeps the ones before."""
    same: dict[str, Any] = {"lr_scheduler_type": "wsd", "warmup_steps": 2, "keep_every": 3, "save_total_limit": 1}
    first = job(tmp_path, text, max_steps=10, **same)
    first.execute(ALONE, resume=False)
    assert steps_kept(first.work) == [3, 6, 9, 10]  # from step 9 on the rate falls
    job(tmp_path, text, max_steps=12, **same).execute(ALONE, resume=True)
    assert steps_kept(first.work) == [3, 6, 9, 10, 12]
    job(tmp_path, text, max_steps=13, **same | {"keep_every": None}).execute(ALONE, resume=True)
    assert steps_kept(first.work) == [11, 13]  # the setting may change as the training goes on


def steps_kept(work: Path) -> list[int]:
    return [step_of(path) for path in complete_checkpoints(work)]
