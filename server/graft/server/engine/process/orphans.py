"""Engine processes end with the server, even when the server is killed and can tell them nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait
from pathlib import Path

from graft.server.engine.process.shared_names import remove_names

_NAME = "graft-end-with-parent"


def end_with_parent() -> None:
    """End this process at once when the process that spawned it has ended. Nothing happens in the server itself."""
    parent = multiprocessing.parent_process()
    if parent is None or any(thread.name == _NAME for thread in threading.enumerate()):
        return
    threading.Thread(target=_watch, args=(parent.sentinel,), name=_NAME, daemon=True).start()


def kill_below(pid: int) -> None:
    """SIGKILL to every process below `pid`, children first, theirs after them.

    Python's resource trackers are spared: they remove the others' shared memory, and end by themselves.
    """
    for child in _descendants(pid):
        with contextlib.suppress(OSError):
            if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)


def _watch(sentinel: int) -> None:
    wait([sentinel])
    remove_names()
    os._exit(1)


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
