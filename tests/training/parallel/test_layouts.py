"""Every layout gives the loss curve and the weights of a single process (gloo, float32)."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.parallel.runs import (
    CASES,
    FAMILIES,
    INTERRUPTED,
    INTERRUPTED_AT,
    NUM_STEPS,
    RESUMED,
    Case,
    alone,
    losses,
)

NUM_PROCESSES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, one after the other in the same processes: importing takes longer than training."""
    folder = tmp_path_factory.mktemp("layouts")
    run(folder, [*CASES, *INTERRUPTED], NUM_PROCESSES)
    return folder


def run(folder: Path, names: list[str], num: int) -> None:
    command = [sys.executable, "-m", "tests.training.parallel.runs"]
    children = []
    for rank in range(num):
        with (folder / f"log-{num}-{rank}").open("wb") as log:
            arguments = [str(rank), str(num), str(folder), *names]
            root = Path(__file__).parents[3]
            children.append(subprocess.Popen([*command, *arguments], cwd=root, stdout=log, stderr=subprocess.STDOUT))
    try:
        codes = [child.wait(timeout=900) for child in children]
    finally:
        for child in children:
            child.kill()
    assert codes == [0] * num, (folder / f"log-{num}-0").read_text()[-4000:]


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


def assert_is_the_reference(own: Path, expected_losses: list[float], expected: dict[str, torch.Tensor]) -> None:
    found = losses(own)
    assert len(found) == NUM_STEPS and found[-1] < found[0]
    assert found == pytest.approx(expected_losses, abs=1e-5)
    weights: dict[str, torch.Tensor] = {}
    for path in own.glob("weights-*.pt"):  # of a pipeline each has its own
        weights |= torch.load(path, weights_only=True)
    assert weights.keys() == expected.keys()
    off = sum((weights[key] - expected[key]).square().sum() for key in expected)
    assert float((off / sum(one.square().sum() for one in expected.values())).sqrt()) < 1e-4
