"""Engine processes end with the server, even when the server is killed and can tell them nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from multiprocessing.connection import wait

import psutil

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
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if not any("resource_tracker" in argument for argument in child.cmdline()):
                    child.kill()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    remove_names()
    os._exit(1)
