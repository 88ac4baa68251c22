"""A Graft server in a process of its own, for as long as a `with` block lasts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graft.cli.failure import CommandFailed

_START_SECONDS, _STOP_SECONDS = 180.0, 60.0
# PR_SET_PDEATHSIG of <linux/prctl.h>, with SIGTERM.
_END_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """Where it listens and which process it is."""

    grpc_port: int
    http_port: int
    pid: int

    @property
    def target(self) -> str:
        """The gRPC address."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI clients."""
        return f"http://127.0.0.1:{self.http_port}/v1"


def graft_command(*arguments: str) -> list[str]:
    """A `graft` command line that runs in this interpreter's environment."""
    return [sys.executable, "-m", "graft.cli.main", *arguments]


def ending_with_this(command: Sequence[str]) -> list[str]:
    """The same command, with SIGTERM where this process is killed; only Linux can be asked. A new interpreter asks for
    it: a fork of this one may have gRPC's threads beside it, and crashes now and then.
    """
    return [sys.executable, "-c", _END_WITH_PARENT, *command] if sys.platform == "linux" else [*command]


class ServerProcess:
    """`graft serve` on free ports, in a session of its own so that whatever it leaves behind can be found."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / "server.log"
        self._ready_file = folder / "server.ready.json"
        self._ready_file.unlink(missing_ok=True)
        ports = ("--grpc-port", "0", "--http-port", "0")
        command = graft_command(
            "serve", *ports, "--ready-file", str(self._ready_file), "--data-dir", str(folder / "data"), *arguments
        )
        # Its callers have no tokens.
        environment = {name: value for name, value in os.environ.items() if name != "GRAFT_TENANTS_FILE"}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    def wait_ready(self) -> RunningServer:
        """Raises CommandFailed, with the end of the log, where the server ends or does not start in time."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise CommandFailed(
                    f"the server ended with exit code {self._process.returncode}:\n{what_matters(self.log)}"
                )
            if self._ready_file.exists() and (text := self._ready_file.read_text(encoding="utf-8")):
                ready = json.loads(text)
                return RunningServer(**{key: ready[key] for key in RunningServer.__dataclass_fields__})
            time.sleep(0.1)
        raise CommandFailed(f"the server was not ready within {_START_SECONDS:g} s:\n{what_matters(self.log)}")

    def stop(self) -> list[int]:
        """End it with SIGTERM and wait; the ids of processes that it left behind (which are killed then)."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        # Its children may need a moment to notice.
        left = wait_for_end_of_session(self._process.pid, 5.0)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        wait_for_end_of_session(self._process.pid, 5.0)
        return left


def processes_of_session(session: int) -> list[int]:
    """Ids of the living processes of a session, from /proc (zombies do not live)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name in parentheses may hold spaces; after it come state, parent, group and session.
            state, _, _, of_session = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:4]
            if int(of_session) == session and state != "Z":
                found.append(int(stat.parent.name))
    return sorted(found)


def wait_for_end_of_session(session: int, seconds: float) -> list[int]:
    """Ids of the processes that still live after at most so long."""
    deadline = time.monotonic() + seconds
    while (living := processes_of_session(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return living


@contextmanager
def running_server(folder: Path, *arguments: str) -> Iterator[RunningServer]:
    """A ready server; it is ended on the way out, whatever happens."""
    process = ServerProcess(folder, *arguments)
    try:
        yield process.wait_ready()
    finally:
        process.stop()


def run_command(arguments: Sequence[str], *, log: Path, threads: int | None = None) -> str:
    """Run a `graft` command to its end and return what it printed. Raises CommandFailed with the end of its log."""
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with log.open("wb") as errors:
        done = subprocess.run(
            graft_command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            check=False,
        )
    printed = done.stdout.decode(errors="replace")
    if done.returncode:
        command = f"`graft {' '.join(arguments)}`"
        raise CommandFailed(f"{command} ended with exit code {done.returncode}:\n{what_matters(log)}{printed[-2000:]}")
    return printed


_TELLING = re.compile(r"\b(ERROR|WARNING|CRITICAL|\w*Error|\w*Exception|cannot|failed|[Kk]illed)\b")
_NUM_FIRST, _NUM_LAST, _MAX_WIDTH = 8, 12, 300


def what_matters(log: Path) -> str:
    """The first lines of a log that tell of a fault, which are nearest to its cause, and the last lines of all."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    telling = [index for index, line in enumerate(lines) if _TELLING.search(line)]
    shown = sorted({*telling[:_NUM_FIRST], *range(max(0, len(lines) - _NUM_LAST), len(lines))})
    return "".join(f"  | {lines[index][:_MAX_WIDTH]}\n" for index in shown)
