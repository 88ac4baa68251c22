"""A server and its worker as two processes that end together."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from graft.cli.failure import CommandFailed
from graft.cli.server_process import ending_with_this, graft_command

_LOOK_SECONDS = 0.1


class Both:
    """`graft serve` and `graft worker`."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._asked = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self) -> int:
        """0 behind a signal. Raises CommandFailed where one of both ended by itself."""
        with tempfile.TemporaryDirectory(prefix="graft-up-") as folder, self._signals():
            ready = self._args.ready_file or Path(folder) / "ready.json"
            ready.unlink(missing_ok=True)
            server = self._started("serve", "--ready-file", str(ready), *self._args.serve)
            try:
                while not self._asked and not ready.exists():
                    _check_alive("serve", server)
                    time.sleep(_LOOK_SECONDS)
                if not self._asked:
                    self._started("worker", *self._for_worker(json.loads(ready.read_text(encoding="utf-8"))))
                self._accompanied(server)
                return 0
            finally:
                self._end()

    def _for_worker(self, ready: dict[str, Any]) -> list[str]:
        args, host = self._args, ready["host"]
        server, metrics = f"{host}:{ready['grpc_port']}", f"http://{host}:{ready['http_port']}/metrics"
        print(f"graft up: a worker for {server}, which waits while {metrics} tells of slow answers", flush=True)
        found = ["--server", server, "--folder", str(args.folder)]
        found += ["--yield-to", metrics, "--yield-above", str(args.yield_above)]
        for flag, value in (("--processes", args.processes), ("--settings", args.settings)):
            found += [] if value is None else [flag, str(value)]
        return found

    def _accompanied(self, server: subprocess.Popen[bytes]) -> None:
        """Until a signal. Raises CommandFailed where one of both ends."""
        while not self._asked:
            for process in self._processes:
                _check_alive("serve" if process is server else "worker", process)
            time.sleep(_LOOK_SECONDS)

    def _end(self) -> None:
        """The worker first: it has a job to save, and a server to give it back to."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait()

    def _started(self, *arguments: str) -> subprocess.Popen[bytes]:
        # In sessions of their own: a terminal's Ctrl-C comes here alone, and is passed on in order.
        process = subprocess.Popen(ending_with_this(graft_command(*arguments)), start_new_session=True)
        self._processes.append(process)
        return process

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def hear(number: int, frame: FrameType | None) -> None:
            self._asked += 1
            if self._asked > 1:
                # Of one that was waited for the id is another's by now.
                for process in (one for one in self._processes if one.returncode is None):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)

        before = {one: signal.signal(one, hear) for one in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _check_alive(name: str, process: subprocess.Popen[bytes]) -> None:
    if (code := process.poll()) is not None:
        raise CommandFailed(f"graft {name} ended with exit status {code}: its own words stand above")
