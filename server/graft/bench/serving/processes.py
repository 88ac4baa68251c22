"""Child processes: ended with everything below them, and kept from printing among the results."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

_STOP_SECONDS = 45.0


class BenchFailed(Exception):
    """A measurement could not be made; said in one line, and the others go on."""

    exit_code = 1


@contextlib.contextmanager
def errors_into(log: Path) -> Iterator[None]:
    """Send standard error, that of child processes included, to the file `log` while the block lasts."""
    sys.stderr.flush()
    before = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


def tree_of(pid: int) -> list[psutil.Process]:
    """The process and all below it; empty where it has ended."""
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


class Child:
    """A process with its output in a file, in a session of its own."""

    def __init__(self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if environment is None else environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check_alive(self) -> None:
        """Raises `BenchFailed` with the end of its output where it has ended."""
        if self._process.poll() is not None:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
            raise BenchFailed(f"the child process ended with exit code {self._process.returncode}: " + "\n".join(lines))

    async def stop(self) -> None:
        """SIGTERM, then whatever is left is killed."""
        processes = tree_of(self.pid)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, _STOP_SECONDS)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        await asyncio.to_thread(self._process.wait)
