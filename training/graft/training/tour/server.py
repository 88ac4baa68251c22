"""A server of a command's own: `graft serve` or `graft up` as a child process that ends with it, even a killed one."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from graft.training.errors import TrainingError
from graft.training.runtime.parent import end_with
from graft.training.tour.progress import tell

START_SECONDS, STOP_SECONDS = 600.0, 60.0
_NEVER_SECONDS = 86_400.0
_READY = "ready.json"


class NotStarted(TrainingError, RuntimeError):
    """The server ended, or was not ready in time."""

    exit_code = 1


@contextmanager
def served(*flags: str) -> Iterator[str]:
    """The gRPC address of a ready server; without ``flags`` on the shipped base. Raises ``NotStarted`` with the end of
    its log.
    """
    with tempfile.TemporaryDirectory(prefix="graft-tour-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with _running(folder, ["serve", *_ready(folder), *_of_server(folder), *flags]) as target:
            yield target


@contextmanager
def served_with_worker(folder: Path, *flags: str) -> Iterator[str]:
    """The same with a worker for its jobs, which waits for no users: there are none. What both know stays in the
    folder, and those that are started there again go on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    worker = ["--folder", str(folder / "worker"), "--yield-above", str(_NEVER_SECONDS)]
    with _running(folder, ["up", *_ready(folder), *worker, "--", *_of_server(folder), *flags]) as target:
        yield target


@contextmanager
def _running(folder: Path, arguments: Sequence[str]) -> Iterator[str]:
    (folder / _READY).unlink(missing_ok=True)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            _command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=_environment(),
            preexec_fn=functools.partial(end_with, os.getpid()),
        )
    try:
        tell("Starting a server …")
        yield f"127.0.0.1:{_wait_ready(process, folder)}"
    finally:
        _end(process)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "graft.cli.main", *arguments]


def _ready(folder: Path) -> list[str]:
    return ["--ready-file", str(folder / _READY)]


def _of_server(folder: Path) -> list[str]:
    return ["--grpc-port", "0", "--http-port", "0", "--data-dir", str(folder / "data")]


def _environment() -> dict[str, str]:
    """Without tenants, of whom nobody here has a token."""
    return {name: value for name, value in os.environ.items() if name != "GRAFT_TENANTS_FILE"}


def _wait_ready(process: subprocess.Popen[bytes], folder: Path) -> int:
    ready, deadline = folder / _READY, time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if ready.exists() and (text := ready.read_text(encoding="utf-8")):
            return int(json.loads(text)["grpc_port"])
        time.sleep(0.1)
    why = "was not ready in time" if process.poll() is None else f"ended with exit code {process.returncode}"
    last = (folder / "server.log").read_text(encoding="utf-8", errors="replace")[-2000:]
    raise NotStarted(f"the server {why}:\n{last}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after a minute SIGKILL to whatever of its session is left."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
