"""`graft reinforce` in a process of its own, which can be halted for a while."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graft.cli.failure import CommandFailed
from graft.cli.server_process import ending_with_this, graft_command, what_matters

_LOOK_SECONDS = 0.2


class Training:
    """Begins at once; it computes on one thread, with what nobody else wants of the processors."""

    def __init__(self, arguments: Sequence[str], *, folder: Path, log: Path) -> None:
        self._folder, self._log = folder, log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                ending_with_this(graft_command("reinforce", "--idle", "--output", str(folder), *arguments)),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """Metrics of those that are behind it."""
        path, found = self._folder / "metrics.jsonl", []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):  # a line that is still being written
                    found.append(json.loads(line))
        return found

    def goes_on(self, seconds: float) -> bool:
        """Waits so long, or until it ends. Raises CommandFailed where it failed."""
        end = time.monotonic() + seconds
        while (code := self._process.poll()) is None and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        if code:
            raise CommandFailed(f"`graft reinforce` ended with exit code {code}:\n{what_matters(self._log)}")
        return code is None

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """It computes nothing and asks for nothing meanwhile."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
