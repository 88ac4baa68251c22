"""Every layout gives the loss curve and the weights of a single process (gloo, float32)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.parallel.runs import CASES, FAMILIES, INTERRUPTED, INTERRUPTED_AT, RESUMED, Case, alone, losses
from tests.training.parallel.starting import assert_is_the_reference, run

NUM_PROCESSES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, one after the other in the same processes: importing takes longer than training."""
    folder = tmp_path_factory.mktemp("layouts")
    run(folder, [*CASES, *INTERRUPTED], NUM_PROCESSES)
    return folder


Reference = Callable[[Case], tuple[list[float], dict[str, torch.Tensor]]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What one process does with the model and the data of a case."""

    @functools.cache
    def found(model_type: str, warmup_steps: int) -> tuple[list[float], dict[str, torch.Tensor]]:
        own = tmp_path_factory.mktemp(model_type)
        weights = alone(model_type, own, warmup_steps=warmup_steps)
        return losses(own), weights

    return lambda case: found(case.model_type, case.warmup_steps)


@pytest.mark.parametrize("name", CASES)
def test_a_layout_is_a_single_process_in_other_places(name: str, folder: Path, reference: Reference) -> None:
    assert_is_the_reference(folder / name, *reference(CASES[name]))


@pytest.mark.slow
def test_every_family_is_split_alike(tmp_path: Path, reference: Reference) -> None:
    run(tmp_path, list(FAMILIES), NUM_PROCESSES)
    for name, case in FAMILIES.items():
        assert_is_the_reference(tmp_path / name, *reference(case))


def test_what_four_processes_left_two_take_up(folder: Path, reference: Reference) -> None:
    """Ten steps on dp_shard 2 × tp 2, ten more on dp_shard 2."""
    own = folder / "interrupted"
    assert len(losses(own)) == INTERRUPTED_AT
    for left in own.glob("weights-*.pt"):
        left.unlink()
    run(folder, list(RESUMED), 2)
    assert_is_the_reference(own, *reference(RESUMED["resumed"]))
