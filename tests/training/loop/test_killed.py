"""F13: killed at twenty random steps and resumed, a training ends with the weights of one that was left alone; asked to
end by SIGTERM or SIGINT, no step is taken twice.
"""

from __future__ import annotations

import errno
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graft.training.errors import CheckpointError
from graft.training.job.folder import leave
from graft.training.loop.checkpoint import checkpoint_values, complete_checkpoints, load_tensors
from tests.training.loop.checkpoints import save_checkpoint
from tests.training.loop.killing import NUM_STEPS, WEIGHTS

NUM_KILLS = 20


def run(folder: Path, number: signal.Signals, steps: list[int]) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "tests.training.loop.killing", str(folder), number.name, *map(str, steps)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was left alone."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, signal.SIGKILL, [])
    return folder


@pytest.mark.parametrize(
    ("number", "num_times"), [(signal.SIGKILL, NUM_KILLS), (signal.SIGTERM, 5), (signal.SIGINT, 2)]
)
def test_killed_twenty_times_and_bit_equal(number: signal.Signals, num_times: int, whole: Path, tmp_path: Path) -> None:
    run(tmp_path, number, sorted(random.Random(1).sample(range(1, NUM_STEPS - 6), num_times)))
    expected, found = (torch.load(folder / WEIGHTS, weights_only=True) for folder in (whole, tmp_path))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    left_alone, killed = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, tmp_path)
    )
    assert [row["loss"] for row in killed] == [row["loss"] for row in left_alone]
    assert len(killed) == NUM_STEPS


def test_a_full_disk_at_a_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk."""
    save_checkpoint(tmp_path, 1, {"x": torch.ones(10)}, {"step": 1})
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"checkpoint-2 could not be written: .*; the checkpoints before it"):
            save_checkpoint(tmp_path, 2, {"x": torch.ones(10**6)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    (left,) = complete_checkpoints(tmp_path)
    into = {"x": torch.zeros(10)}
    load_tensors(left, into)
    assert checkpoint_values(left) == {"step": 1} and torch.equal(into["x"], torch.ones(10))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, {"x": torch.ones(10)}, {"step": 1})
    with pytest.raises(CheckpointError, match="is damaged, or of another model"):
        load_tensors(path, {"y": torch.zeros(10)})
    with pytest.raises(CheckpointError, match="is damaged, or of another model"):
        load_tensors(path, {"x": torch.zeros(11)})


def test_reading_21_an_old_checkpoint_that_cannot_be_removed_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def refused(path: Path, **options: bool) -> None:
        if Path(path).name == "checkpoint-1":
            raise PermissionError(errno.EACCES, "Permission denied")
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", refused)
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, step, {"x": torch.ones(10)}, {"step": step})
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-4"]
    (told,) = [record.getMessage() for record in caplog.records if record.name == "graft.training.loop.checkpoint"]
    assert told.endswith("checkpoint-1 is no longer needed and cannot be removed: Permission denied")


def test_a_folder_of_the_users_beside_checkpoints_is_none(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"x": torch.ones(10)}, {"step": 1})
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-best" / "COMPLETE").touch()
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-1"]


@pytest.mark.parametrize("num_complete", [0, 2])
def test_halves_of_checkpoints_go_and_nothing_else(num_complete: int, tmp_path: Path) -> None:
    """One that was being written, one that was whole and not yet in its place, and one that was being removed."""
    for step in range(1, num_complete + 1):
        save_checkpoint(tmp_path, step, {"x": torch.ones(10)}, {"step": step})
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / ".settings").touch()
    before = sorted(tmp_path.rglob("*"))
    for name in (".checkpoint-3", ".checkpoint-4", "checkpoint-5"):
        shutil.copytree(save_checkpoint(tmp_path / "other", 9, {"x": torch.ones(10)}, {"step": 9}), tmp_path / name)
    shutil.rmtree(tmp_path / "other")
    for name in (".checkpoint-3", "checkpoint-5"):
        (tmp_path / name / "COMPLETE").unlink()
    leave(tmp_path, num_complete)
    assert sorted(tmp_path.rglob("*")) == before
