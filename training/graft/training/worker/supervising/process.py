"""The child that trains: started, asked to save and stop, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from graft.training.worker.lease import LEASE

_MODULE = "graft.training.worker.child"
LOG = "child.log"


def command(attempt: Path, *, num_processes: int) -> list[str]:
    """What is started for a job: Python itself, or ``torchrun`` with so many processes."""
    if num_processes == 1:
        return [sys.executable, "-m", _MODULE, str(attempt)]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    return [sys.executable, *launcher, "--max-restarts=0", "-m", _MODULE, str(attempt)]


class Child:
    """A process in a session of its own, so that a terminal's Ctrl-C reaches the worker alone; it ends with the worker,
    whose end of its standard input closes then.
    """

    def __init__(self, line: Sequence[str], *, attempt: Path, lease_seconds: float) -> None:
        """``line`` is its command line. Without a ``beat`` for so long it ends by itself: the worker may hang."""
        with (attempt / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                line,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, LEASE: f"{lease_seconds:g}"},
            )
        self.is_asked = False
        assert self._process.stdin is not None
        self._beats = self._process.stdin
        os.set_blocking(self._beats.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def beat(self) -> None:
        """The job is the worker's still."""
        with contextlib.suppress(OSError, ValueError):  # it is full, or closed
            os.write(self._beats.fileno(), b".")

    def stop(self) -> None:
        """Ask it, once, to save after this step and to end."""
        if not self.is_asked and self._process.poll() is None:
            self.is_asked = True
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now, with all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """It has ended, and nothing of it stays."""
        self.kill()
        with contextlib.suppress(OSError):
            self._beats.close()
