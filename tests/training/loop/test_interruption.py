"""Signals to a process that trains, in real processes; that weights come out the same is in ``test_killed``."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.training.loop.interruption import STOP, Interruption

BEGIN = """
import ctypes, signal, sys, time
from pathlib import Path
from graft.training.loop.interruption import Interruption
interruption = Interruption(Path())
def wait():
    print("begun", flush=True)
    while not interruption.is_asked(): time.sleep(0.01)
"""
WAITS = """
with interruption:
    wait()
    print(interruption.number)
    sys.exit(3)
"""
IGNORES = f"signal.signal(signal.SIGINT, signal.SIG_IGN){WAITS}"
LATE = """
with interruption:
    wait()
print("still here")
"""
HANGS = """
with interruption:
    mutex, lock = (ctypes.c_char * 64)(), ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    print("begun", flush=True)
    lock(mutex)  # never returns, and no handler of Python's runs before
"""


@contextlib.contextmanager
def started(code: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", BEGIN + code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()  # what has not ended by now never will


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks(number: signal.Signals) -> None:
    with started(WAITS) as process:
        process.send_signal(number)
        assert process.communicate(timeout=60) == (f"{int(number)}\n", None)
    assert process.returncode == 3


def test_what_the_launcher_passes_on_at_once_is_the_same_signal() -> None:
    with started(WAITS) as process:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 3 and int(said) in (signal.SIGINT, signal.SIGTERM)


def test_a_second_signal_ends_at_once_even_what_hangs() -> None:
    with started(HANGS) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_signal_that_was_ignored_stays_so() -> None:
    """As SIGINT in a script's background processes."""
    with started(IGNORES) as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60) == (f"{int(signal.SIGTERM)}\n", None)


def test_a_signal_too_late_for_the_last_step_ends_what_follows() -> None:
    with started(LATE) as process:
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60) == ("", None)
    assert process.returncode == -signal.SIGTERM


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with Interruption(tmp_path):
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_in_a_thread_a_file_asks(tmp_path: Path) -> None:
    found = []

    def work() -> None:
        with Interruption(tmp_path) as interruption:
            found.append(interruption.is_asked())
            (tmp_path / STOP).touch()
            found.append(interruption.is_asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False, True]
    with Interruption(tmp_path) as interruption:  # where signals come, a file left behind says nothing
        assert not interruption.is_asked()
