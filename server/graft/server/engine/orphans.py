"""Engine processes end with the server, even when the server is killed and can tell them nothing."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """End this process at once when the process that spawned it has ended. Nothing happens in the server itself."""
    parent = multiprocessing.parent_process()
    if parent is None or any(thread.name == _NAME for thread in threading.enumerate()):
        return
    threading.Thread(target=_watch, args=(parent.sentinel,), name=_NAME, daemon=True).start()


_NAME = "graft-end-with-parent"


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
