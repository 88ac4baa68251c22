"""SIGTERM and SIGINT while a run takes steps: the running step is finished and a checkpoint written, then it ends.

A second signal ends the process at once. A thread reads the signals from a wake-up descriptor, so that a second one is
obeyed even where the main thread hangs in a collective operation.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Self

_log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOP = "stop"
"""File in a run's folder that holds a signal's number, where processes get none: in Ray's workers."""
SAME_SECONDS = 1.0
"""A terminal signals the launcher and its workers, and the launcher the workers again: so soon it is the same."""


class Interruption:
    """Whether this process was asked to end. Signals are taken over in the main thread only, as long as the run lasts;
    one that was ignored stays ignored, as under ``nohup``.
    """

    def __init__(self, folder: Path) -> None:
        self._mark, self._number, self._heard_at = folder / STOP, 0, 0.0
        self._has_signals = threading.current_thread() is threading.main_thread()

    @property
    def number(self) -> int:
        """Of the signal that asked; SIGTERM where another process heard it."""
        return self._number or asked_by(self._mark)

    def is_asked(self) -> bool:
        return bool(self._number) or (not self._has_signals and self._mark.exists())

    def __enter__(self) -> Self:
        if not self._has_signals:
            return self
        self._before = {one: signal.getsignal(one) for one in SIGNALS}
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._descriptor_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for one, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(one, _leave_it_to_the_thread)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if not self._has_signals:
            return
        for one, handler in self._before.items():
            if handler is not None:  # else not set from Python, and not ours to restore
                signal.signal(one, handler)
        signal.set_wakeup_fd(self._descriptor_before)
        self._writer.close()  # which ends the thread
        self._thread.join()
        if kind is None and self._number:  # too late for the last step
            os.kill(os.getpid(), self._number)

    def _listen(self) -> None:
        with contextlib.closing(self._reader):
            while heard := self._reader.recv(64):
                for number in heard:
                    if number in SIGNALS:
                        self._hear(number)

    def _hear(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self._number:
            self._heard_at, self._number = time.monotonic(), number
            _log.warning("%s: ending after this step and a checkpoint; a second signal ends at once", name)
        elif time.monotonic() - self._heard_at > SAME_SECONDS:
            _log.warning("%s again: ending at once, without a checkpoint of this step", name)
            os._exit(128 + number)


def asked_by(mark: Path) -> int:
    """The signal's number in a file; SIGTERM's where it is not there."""
    try:
        return signal.Signals(int(mark.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return signal.SIGTERM


def _leave_it_to_the_thread(number: int, frame: FrameType | None) -> None:
    pass
