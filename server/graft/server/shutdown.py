"""Signals: the first asks for a drain, the second ends the process and the engine's at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """As a context it listens for signals; `asked` is set by the first."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for one in _SIGNALS:
            loop.add_signal_handler(one, self._signalled, one)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for one in _SIGNALS:
            loop.remove_signal_handler(one)

    def _signalled(self, number: signal.Signals) -> None:
        if not self.asked.is_set():
            self.asked.set()
            return
        kill_children()
        os._exit(128 + number)


def kill_children() -> None:
    """End the engine's processes whatever they do: children first, theirs after them.

    Python's resource trackers are spared: they remove the others' shared memory, and end by themselves.
    """
    for child in _descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # A process may end while we look; the name in parentheses may hold spaces.
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(stat.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, level = [], [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found += level
    return found
