"""SIGTERM and SIGINT on their way to Ray's workers and back, without Ray."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from graft.training.errors import Interrupted
from graft.training.job.export import behind_it
from graft.training.launch import ray
from graft.training.launch.processes import Processes
from graft.training.loop.interruption import STOP, asked_by

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_leaves_a_file_and_gives_the_handlers_back(number: signal.Signals, tmp_path: Path) -> None:
    stop, before = tmp_path / "work" / STOP, [signal.getsignal(one) for one in SIGNALS]
    with ray._passing_on(stop):
        os.kill(os.getpid(), number)
        assert asked_by(stop) == number
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ray._passing_on(tmp_path / STOP):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (tmp_path / STOP).exists()


def test_a_file_without_a_number_stands_for_sigterm(tmp_path: Path) -> None:
    assert asked_by(tmp_path / STOP) == signal.SIGTERM
    (tmp_path / STOP).touch()
    assert asked_by(tmp_path / STOP) == signal.SIGTERM


def test_ray_does_not_find_itself_in_the_main_thread(tmp_path: Path) -> None:
    """There it would take SIGINT over; and the signal is heard while it works."""
    stop, done = tmp_path / STOP, threading.Event()

    class Trainer:
        def fit(self) -> None:
            assert threading.current_thread() is not threading.main_thread()
            os.kill(os.getpid(), signal.SIGINT)
            deadline = time.monotonic() + 60
            while not stop.exists():
                assert time.monotonic() < deadline
            done.set()

    ray._fit(Trainer(), stop)  # type: ignore[arg-type]
    assert done.is_set() and asked_by(stop) == signal.SIGINT


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_at_once(second: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from graft.training.launch import ray\n"
        f"with ray._passing_on(Path({str(tmp_path / STOP)!r})):\n"
        f"    for number in (signal.SIGINT, {int(second)}): os.kill(os.getpid(), number)\n"
        "    sys.exit(0)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == -second


def test_a_full_disk_gives_the_handlers_back_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, text: str) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ray, "replace_text", full)
    with ray._passing_on(tmp_path / STOP):
        os.kill(os.getpid(), signal.SIGTERM)
        assert [signal.getsignal(one) for one in SIGNALS] == [signal.SIG_DFL] * 2
    assert "No space left on device" in caplog.text and not (tmp_path / STOP).exists()


class Ending:
    """A job that a worker's run ends behind a checkpoint, or behind what it has written."""

    name = "ending"

    def __init__(self, work: Path, *, is_full: bool) -> None:
        self.work, self.is_full = work, is_full

    def execute(self, processes: Processes, *, resume: bool) -> Any:
        if not self.is_full:
            raise Interrupted("SIGTERM after step 3 of 9", number=signal.SIGTERM)
        with behind_it(self.work / "base", what="its measures", remedy="repeat that where there is more"):
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(("is_full", "words"), [(False, "SIGTERM after step 3 of 9"), (True, "is written and whole")])
def test_a_worker_that_would_end_so_again_is_not_started_again(
    is_full: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It returns, and leaves the words for the command that waits."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ray._work({"job": Ending(tmp_path, is_full=is_full)})
    assert words in (tmp_path / ray.FAILURE).read_text()
