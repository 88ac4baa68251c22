"""A folder that belongs to one process: others see that it is in use, and what a killed process left is removed."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from graft.adapters.store import disk

_LOCK_FILE = "lock"


class SessionFolder:
    """`path` is a new folder below a root that several processes may share."""

    def __init__(self, root: Path, *, left: Callable[[Path], None] = lambda session: None) -> None:
        """Remove what dead processes left below `root`, and make a folder there. Raises OSError, or StoreFull.

        `left` is told of each folder before it is removed.
        """
        with disk.full_disk_explained(root):
            root.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(root, left)
            name = uuid.uuid4().hex[:12]  # short: the path of a socket in it has 107 characters at most
            unlocked = root / f"new-{name}"
            unlocked.mkdir()
            # Held until the process ends, however it ends.
            self._lock: int | None = _locked(unlocked)
            self.path = unlocked.rename(root / f"session-{name}")

    def close(self) -> None:
        """Remove the folder with all that is in it. A second time does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            disk.remove(self.path)
            os.close(lock)


def _locked(folder: Path) -> int:
    handle = os.open(folder / _LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _remove_leftovers(root: Path, left: Callable[[Path], None]) -> None:
    for session in root.glob("session-*"):
        try:
            handle = _locked(session)
        except OSError:
            continue
        left(session)
        disk.remove(session)
        os.close(handle)
