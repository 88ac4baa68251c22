"""SIGTERM or SIGINT to a training of two processes: all end behind the same step, and the weights come out the same."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from graft.training.loop.checkpoint import complete_checkpoints, step_of
from graft.training.loop.progress import METRICS
from tests.training.launch.test_launchers import NUM_STEPS, TORCHRUN, arguments, holder_of, run, write_text

pytestmark = pytest.mark.slow
STARTS = {
    "torchrun": [*TORCHRUN, "-m", "graft.cli.main"],
    "ray": [sys.executable, "-m", "graft.cli.main"],
}
FLAGS = {"torchrun": [], "ray": ["--ray", "2"]}


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("alone")
    run([*STARTS["torchrun"], *arguments(folder, "two", write_text(folder))])
    return load_file(folder / "two" / "model.safetensors")


def ended(command: list[str], work: Path, who: str, number: signal.Signals) -> tuple[str, int]:
    """What a training said that was asked to end after some step, and its launcher's status."""
    metrics, after = work / METRICS, random.Random(who).randrange(5, NUM_STEPS // 2)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 1200
        while not metrics.exists() or metrics.read_text().count("\n") < after:
            assert process.poll() is None and time.monotonic() < deadline, "the training did not come so far"
            time.sleep(0.02)
        first = holder_of(metrics)
        others = [one.pid for one in psutil.Process(process.pid).children() if one.pid != first]
        target = {"launcher": process.pid, "first": first, "other": others[0]}[who]
        assert target is not None
        psutil.Process(target).send_signal(number)
        said, _ = process.communicate(timeout=900)
    return said, process.returncode


@pytest.mark.parametrize(
    ("launcher", "who", "number", "status"),
    [
        ("torchrun", "launcher", signal.SIGTERM, 1),  # torchrun's own, whatever its workers end with
        ("torchrun", "launcher", signal.SIGKILL, -signal.SIGKILL),
        ("torchrun", "first", signal.SIGTERM, 1),
        ("torchrun", "other", signal.SIGTERM, 1),
        ("ray", "launcher", signal.SIGTERM, 128 + signal.SIGTERM),
        ("ray", "launcher", signal.SIGINT, 128 + signal.SIGINT),
    ],
)
def test_all_end_behind_the_same_step_and_go_on_from_it(
    launcher: str,
    who: str,
    number: signal.Signals,
    status: int,
    tmp_path: Path,
    left_alone: dict[str, torch.Tensor],
) -> None:
    typed = arguments(tmp_path, "two", write_text(tmp_path), save_steps=1000)
    command = [*STARTS[launcher], *typed, *FLAGS[launcher]]
    work = tmp_path / "two-work"
    said, code = ended(command, work, who, number)
    assert code == status, said[-3000:]
    (kept,) = complete_checkpoints(work)
    num_done = step_of(kept)
    heard = signal.SIGTERM if number == signal.SIGKILL else number
    assert f"{heard.name} after step {num_done} of {NUM_STEPS}; checkpoint-{num_done} is complete in {work}" in said
    assert (work / METRICS).read_text().count("\n") == num_done < NUM_STEPS
    run([*STARTS["torchrun"], *typed, "--resume"])
    found = load_file(tmp_path / "two" / "model.safetensors")
    assert all(torch.equal(found[name], one) for name, one in left_alone.items())
