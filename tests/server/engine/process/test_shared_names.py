"""C12: what an engine's processes put into /dev/shm is named after their engine, and gone however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graft.server.engine.process import shared_names
from graft.server.engine.process.shared_names import SharedNames
from tests.server.engine.process.sharing import start_engine

FOLDER = Path("/dev/shm")


def left(prefix: str) -> list[str]:
    return sorted(path.name for path in FOLDER.glob(f"*{prefix}*"))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_names_are_the_engines_and_are_removed_while_it_runs(capfd: pytest.CaptureFixture[str]) -> None:
    names = SharedNames()
    connection, process = start_engine(names)
    segment, semaphore = connection.recv()
    prefix = segment.lstrip("/").rpartition("-")[0]
    assert semaphore.lstrip("/").startswith(prefix)
    assert len(left(prefix)) == 3  # both, and the lock
    names.remove()
    assert left(prefix) == [f"{prefix}.lock"]
    connection.send("end")
    process.join(30)
    assert process.exitcode == 0
    names.close()
    names.close()
    assert left(prefix) == []
    said = capfd.readouterr().err
    assert "leaked" not in said and "Error" not in said, said


@pytest.fixture
def server() -> Iterator[Callable[[str], tuple[subprocess.Popen[str], str, int]]]:
    servers, engines = [], []

    def start(kind: str) -> tuple[subprocess.Popen[str], str, int]:
        command = [sys.executable, "-m", "tests.server.engine.process.sharing", kind]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[4])
        servers.append(process)
        assert process.stdout is not None
        segment, _, pid = process.stdout.readline().split()
        engines.append(int(pid))
        return process, segment.lstrip("/").rpartition("-")[0], int(pid)

    yield start
    for process in servers:
        process.kill()
        process.wait()
    for pid in engines:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", ["watches", "late"])
def test_an_engine_whose_server_was_killed_removes_its_names(server: Callable[..., tuple], kind: str) -> None:  # type: ignore[type-arg]
    """Also where the server had gone before the engine came to watch it."""
    process, prefix, _ = server(kind)
    assert len(left(prefix)) == 3
    process.kill()
    until(lambda: not left(prefix))


def test_what_was_killed_altogether_is_swept_by_the_next_and_a_living_servers_is_not(
    server: Callable[..., tuple],  # type: ignore[type-arg]
) -> None:
    (dead, dead_prefix, engine), (_, living_prefix, _) = server("blind"), server("blind")
    os.kill(engine, signal.SIGKILL)
    dead.kill()
    dead.wait()
    assert len(left(dead_prefix)) == 3
    names = SharedNames()
    assert left(dead_prefix) == [] and len(left(living_prefix)) == 3
    (FOLDER / f"{dead_prefix}-later").touch()  # by a process that outlived its server for a moment
    names.close()
    SharedNames().close()
    assert left(dead_prefix) == [] and len(left(living_prefix)) == 3


def test_what_is_swept_cannot_be_locked_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server between the making and the locking of its lock would take it, and lose its names to the sweeper."""
    lock = FOLDER / f"graft-{os.getuid()}-{os.urandom(4).hex()}.lock"
    lock.touch()
    taken: list[int | None] = []
    unlink = shared_names._unlink

    def look(name: str) -> None:
        if name == lock.name:
            taken.append(shared_names._locked(lock, create=False))
        unlink(name)

    monkeypatch.setattr(shared_names, "_unlink", look)
    SharedNames().close()
    assert taken == [None]
    assert not lock.exists()


def test_a_lock_that_another_user_made_is_left_alone() -> None:
    """As root opens every file, a folder stands for one that cannot be opened."""
    lock = FOLDER / f"graft-{os.getuid()}-{os.urandom(4).hex()}.lock"
    lock.mkdir()
    try:
        SharedNames().close()
        assert lock.is_dir()
    finally:
        lock.rmdir()
