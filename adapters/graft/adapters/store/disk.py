"""Files made durable and visible in one step: write beside, flush, rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from graft.adapters.errors import Reason, StoreFull

_log = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def full_disk_explained(where: Path | str) -> Iterator[None]:
    """An error of a full disk as StoreFull, which callers elsewhere read; `where` is for the log. Other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        remedy = "free space, or delete versions that are not wanted and run graft adapters gc"
        reason = Reason(field="disk", problem=str(error.strerror), remedy=remedy)
        _log.error("no space left in %s: %s", where, error)
        raise StoreFull("the server's disk is full; nothing was kept", [reason]) from error


@contextmanager
def temporary_path(folder: Path) -> Iterator[Path]:
    """A fresh path under `folder`; whatever lies there on leaving is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / uuid.uuid4().hex
    try:
        yield path
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_older(folder: Path, left_before: datetime) -> int:
    """Remove what lies in the folder and came there before; returns how many things. Raises OSError."""
    num_removed = 0
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # whoever wrote it has put it in its place
            # Not the time of its bytes, which a file brings along that is linked or moved here.
            if path.stat().st_ctime < left_before.timestamp():
                remove(path)
                num_removed += 1
    return num_removed


def link(source: Path, target: Path) -> None:
    """Make `target` a second name of the file, or a copy where that cannot be. Raises OSError."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in (*_FULL, errno.ENOENT):
            raise
        shutil.copyfile(source, target)


def flush(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: one thread of one process at a time is inside."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def publish(temporary: Path, final: Path) -> None:
    """Rename `temporary` to `final`, durably. Raises OSError."""
    if not final.parent.is_dir():
        final.parent.mkdir(parents=True, exist_ok=True)
        flush(final.parent.parent)
    temporary.rename(final)
    flush(final.parent)
