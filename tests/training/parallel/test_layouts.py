"""Every layout gives the loss curve and the weights of a single process (gloo, float32)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.parallel.runs import CASES, NUM_STEPS, alone, losses

NUM_PROCESSES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, one after the other in the same processes: importing takes longer than training."""
    folder = tmp_path_factory.mktemp("layouts")
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.training.parallel.runs"]
    children = []
    for rank in range(NUM_PROCESSES):
        with (folder / f"log-{rank}").open("wb") as log:
            arguments = [str(rank), str(NUM_PROCESSES), str(folder), *CASES]
            children.append(subprocess.Popen([*command, *arguments], cwd=root, stdout=log, stderr=subprocess.STDOUT))
    try:
        codes = [child.wait(timeout=600) for child in children]
    finally:
        for child in children:
            child.kill()
    assert codes == [0] * NUM_PROCESSES, (folder / "log-0").read_text()[-4000:]
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[float], dict[str, torch.Tensor]]]:
    """What one process does, by model type."""
    found = {}
    for model_type in {case.model_type for case in CASES.values()}:
        own = tmp_path_factory.mktemp(model_type)
        weights = alone(model_type, own)
        found[model_type] = (losses(own), weights)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_layout_is_a_single_process_in_other_places(
    name: str, folder: Path, reference: dict[str, tuple[list[float], dict[str, torch.Tensor]]]
) -> None:
    expected_losses, expected = reference[CASES[name].model_type]
    found = losses(folder / name)
    assert len(found) == NUM_STEPS and found[-1] < found[0]
    assert found == pytest.approx(expected_losses, abs=1e-5)
    weights = {}
    for rank in range(NUM_PROCESSES):  # of a pipeline each has its own
        weights |= torch.load(folder / name / f"weights-{rank}.pt", weights_only=True)
    assert weights.keys() == expected.keys()
    off = sum((weights[key] - expected[key]).square().sum() for key in expected)
    assert float((off / sum(one.square().sum() for one in expected.values())).sqrt()) < 1e-4
