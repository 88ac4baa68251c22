"""Signals: the first asks for a drain, the second ends the process and the engine's at once."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
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
    """End the engine's process whatever it does."""
    for child in multiprocessing.active_children():
        child.kill()
