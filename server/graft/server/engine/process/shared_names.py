"""Names in /dev/shm of one engine's processes: theirs alone, and gone with them however they end.

vLLM's queues are shared memory whose names are needed only until each process has opened it, and multiprocessing's
semaphores likewise. Both would stay behind in a process that is killed. So an engine's processes name what they make
after their engine, which removes the names once it runs; a server that was killed while one started is swept up after.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import secrets
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker, shared_memory, synchronize
from pathlib import Path
from typing import Any

_FOLDER = Path("/dev/shm")
_LOCK = ".lock"
_SEMAPHORE = "sem."  # what the C library puts before the name of one
_SETTING = "semprefix"  # multiprocessing's, for the names of semaphores
_DIGITS, _TRIES = 8, 5


class SharedNames:
    """The names of one engine. Its lock, held until `close` or the end of this process, keeps others from sweeping."""

    def __init__(self) -> None:
        """Sweep what dead servers left, and take a name. Raises OSError."""
        _sweep()
        self._prefix, self._lock = _new_lock()

    @contextlib.contextmanager
    def given(self) -> Iterator[None]:
        """Processes that are started in this block name what they share after this engine."""
        config = _config()
        before = config[_SETTING]
        config[_SETTING] = f"/{self._prefix}"
        try:
            yield
        finally:
            config[_SETTING] = before

    def remove(self) -> None:
        """Remove the names; whoever has opened what they named keeps it."""
        _remove(self._prefix)

    def close(self) -> None:
        """Remove the names and the lock. A second time does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            _remove(self._prefix, lock=True)
            os.close(lock)


def adopt_names() -> None:
    """In a process that was started with `given`: name what is shared after the engine, which will remove it.

    Python's resource tracker is not told: it would remove, and complain of, what is gone already. Does nothing in
    other processes, and nothing a second time.
    """
    global _adopted
    prefix = _own_prefix()
    if prefix is None or _adopted:
        return
    _adopted = True
    remember, forget = resource_tracker.register, resource_tracker.unregister

    def told(send: Callable[[str, str], None]) -> Callable[[str, str], None]:
        return lambda name, kind: None if prefix in name else send(name, kind)

    _put(shared_memory, _make_filename=lambda: f"/{prefix}-{secrets.token_hex(4)}")
    _put(shared_memory.SharedMemory, unlink=lambda memory: _unlink(memory.name))
    _put(synchronize.SemLock, _cleanup=staticmethod(lambda name: _unlink(_SEMAPHORE + name.lstrip("/"))))
    _put(resource_tracker, register=told(remember), unregister=told(forget))


def _put(owner: Any, **replacements: Any) -> None:
    for name, replacement in replacements.items():
        setattr(owner, name, replacement)


_adopted = False


def remove_names() -> None:
    """In an engine's process whose server is gone: remove the engine's names, and its lock."""
    prefix = _own_prefix()
    if prefix is not None:
        _remove(prefix, lock=True)


def _new_lock() -> tuple[str, int | None]:
    for _ in range(_TRIES):
        prefix = f"{_mark()}{secrets.token_hex(4)}"
        path = _FOLDER / (prefix + _LOCK)
        handle = _locked(path, create=True)
        # Another server may have swept it between its making and its locking.
        if handle is not None and path.exists():
            return prefix, handle
    raise OSError(f"no lock could be taken in {_FOLDER}")


def _sweep() -> None:
    """Remove the names of engines whose server has ended. Those of a living one are locked."""
    mark = _mark()
    names = (path.name.removeprefix(_SEMAPHORE) for path in _FOLDER.glob(f"*{mark}*"))
    for prefix in {name[: len(mark) + _DIGITS] for name in names if name.startswith(mark)}:
        try:
            handle = _locked(_FOLDER / (prefix + _LOCK), create=False)
        except FileNotFoundError:
            _remove(prefix)
        except OSError:
            continue  # another user's
        else:
            if handle is not None:
                _remove(prefix, lock=True)
                os.close(handle)  # not before: a server that has just made this lock would take it, and lose it


def _locked(path: Path, *, create: bool) -> int | None:
    """A handle that holds the lock; None where another process does. Raises OSError, FileNotFoundError."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove(prefix: str, *, lock: bool = False) -> None:
    for path in (*_FOLDER.glob(f"{prefix}-*"), *_FOLDER.glob(f"{_SEMAPHORE}{prefix}-*")):
        _unlink(path.name)
    if lock:
        _unlink(prefix + _LOCK)


def _unlink(name: str) -> None:
    with contextlib.suppress(OSError):
        (_FOLDER / name).unlink()


def _mark() -> str:
    return f"graft-{os.getuid()}-"


def _own_prefix() -> str | None:
    """The engine that this process was started for: multiprocessing hands its configuration down."""
    prefix = str(_config().get(_SETTING, "")).removeprefix("/")
    return prefix if prefix.startswith(_mark()) else None


def _config() -> dict[str, Any]:
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    return config
