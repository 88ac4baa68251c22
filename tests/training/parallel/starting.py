"""Several processes that train, and what they must end with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.parallel.runs import NUM_STEPS, losses


def run(folder: Path, names: list[str], num: int) -> None:
    """Cases one after the other in the same processes: importing takes longer than training."""
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
