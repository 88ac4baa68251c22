"""SIGTERM on its way to Ray's workers and back, without Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graft.training.errors import Interrupted
from graft.training.launch import ray
from graft.training.launch.processes import Processes
from graft.training.loop.interruption import STOP


def test_the_first_sigterm_leaves_a_file_and_gives_the_handler_back(tmp_path: Path) -> None:
    stop, before = tmp_path / "work" / STOP, signal.getsignal(signal.SIGTERM)
    with ray._passing_on(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_sigterm_ends_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from graft.training.launch import ray\n"
        f"with ray._passing_on(Path({str(tmp_path / STOP)!r})):\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGTERM)\n"
        "    sys.exit(0)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == -signal.SIGTERM


class Ending:
    """A job that a worker's run ends behind a checkpoint."""

    name = "ending"

    def __init__(self, work: Path) -> None:
        self.work = work

    def execute(self, processes: Processes, *, resume: bool) -> Any:
        raise Interrupted("SIGTERM after step 3 of 9", number=signal.SIGTERM)


def test_a_worker_that_was_stopped_is_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns, and leaves the words for the command that waits."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ray._work({"job": Ending(tmp_path)})
    assert (tmp_path / ray.FAILURE).read_text() == "SIGTERM after step 3 of 9"
