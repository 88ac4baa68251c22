"""The end of the server: asked for by a signal, by a call or by a part that failed, and certain in every case.

The first request starts a drain and a guard: a thread that ends the process whatever the rest of it does. A second
signal ends it at once, with the engine's processes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Self

from graft.server.engine.process.orphans import kill_below

_log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# After the drain: for closing what can be closed. The process is gone within drain + 5 s.
_CLOSING_SECONDS = 4.0
_KILL_EVERY_SECONDS = 0.2


class Shutdown:
    """As a context it listens for signals. `asked` is set by whatever comes first; `deadline` (monotonic) ends the
    drain, and a later request may bring it forward. `failure` says what ended the server, where it was no request."""

    def __init__(self, drain_seconds: float) -> None:
        self.asked = asyncio.Event()
        self.deadline = float("inf")
        self.failure: str | None = None
        self._drain_seconds = drain_seconds
        self._num_signals = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for one in _SIGNALS:
            # Not the loop's own handlers: these also work where something keeps the loop busy.
            self._before[one] = signal.signal(one, self._signalled)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a request to end, the handlers stay: a second signal must still be immediate.
        if not self.asked.is_set():
            for one, handler in self._before.items():
                signal.signal(one, handler)

    def ask(self, drain_seconds: float | None = None) -> None:
        """Drain for so long (default: the server's setting) and end. In the event loop."""
        seconds = self._drain_seconds if drain_seconds is None else drain_seconds
        self._ask(seconds)

    def fail(self, reason: str) -> None:
        """A part without which the server is none has ended: drain, and end with exit code 1."""
        if not self.asked.is_set():
            _log.error("%s: the server ends", reason)
            self.failure = reason
        self.ask()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._num_signals += 1
        if self._num_signals > 1:
            end_at_once(128 + number)
        self._loop.call_soon_threadsafe(self._ask, self._drain_seconds)
        _guard(self._drain_seconds)

    def _ask(self, seconds: float) -> None:
        if time.monotonic() + seconds < self.deadline:
            self.deadline = time.monotonic() + seconds
            _guard(seconds)
        self.asked.set()


def kill_children_until_the_end() -> None:
    """Kill the engine's processes again and again until this process ends.

    An engine's start happens in a thread, which cannot be cancelled; it fails once its process is gone, which may come
    yet. And the process ends only once its threads have.
    """
    _thread(lambda: _repeat(lambda: kill_below(os.getpid()), _KILL_EVERY_SECONDS))


async def to_the_end(serving: Coroutine[Any, Any, int]) -> int:
    """Await the server, then end the process with its exit code. What it raises is raised.

    All is closed by then. Python would go on to wait for threads, and a library's may wait for what never comes.
    """
    code = await serving
    logging.shutdown()
    sys.stdout.flush()
    end_at_once(code)
    return code


def end_at_once(code: int) -> None:
    """End the engine's processes and this one."""
    kill_below(os.getpid())
    os._exit(code)


def _guard(drain_seconds: float) -> None:
    def wait() -> None:
        time.sleep(drain_seconds + _CLOSING_SECONDS)
        sys.stderr.write(
            f"graft: error: not everything ended within the drain time ({drain_seconds:g} s) and "
            f"{_CLOSING_SECONDS:g} s more: the process ends by force\n"
        )
        sys.stderr.flush()
        end_at_once(1)

    _thread(wait)


def _repeat(call: Callable[[], None], seconds: float) -> None:
    while True:
        call()
        time.sleep(seconds)


def _thread(target: Callable[[], None]) -> None:
    threading.Thread(target=target, name="graft-shutdown", daemon=True).start()
