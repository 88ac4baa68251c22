"""The process that an engine runs in: whether it has ended and how, and its end by us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess

from graft.server.engine.process.orphans import kill_below

_NUM_LOOKS = 40
_LOOK_SECONDS = 0.005


class EngineProcess:
    """A process of multiprocessing's, watched by this loop. `ended` is done once it has ended or is being ended."""

    def __init__(self, process: BaseProcess, at_end: Callable[[], None]) -> None:
        """`at_end` is called where the process ends without `expect_end`."""
        self._process = process
        self._at_end = at_end
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._died: asyncio.Future[str] = loop.create_future()
        loop.add_reader(process.sentinel, self._has_ended)

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    def on_death(self, callback: Callable[[str], None]) -> None:
        """Call back once, in this loop, with how the process ended, where nobody expected it."""
        self._died.add_done_callback(lambda died: callback(died.result()))

    def _has_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        if not self._died.done():
            self._set_ended()  # before the streams end, so that whoever sees one end sees the engine gone
            self._tell_how(_NUM_LOOKS)
        self._at_end()

    def _tell_how(self, num_looks: int) -> None:
        code = self._process.exitcode
        if code is None and num_looks > 1:  # its end is seen a moment before its code
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._tell_how, num_looks - 1)
        else:
            self._died.set_result(f"its process {how_it_ended(code)}")

    def _set_ended(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def expect_end(self) -> None:
        """What follows is no death."""
        with contextlib.suppress(OSError, ValueError):
            asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._set_ended()

    def kill(self) -> None:
        """End it and what it started, and wait for it. Nothing in them is worth waiting for."""
        kill_below(self.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.join(timeout=10.0)


def how_it_ended(code: int | None) -> str:
    """Of an exit code as `subprocess` and `multiprocessing` give it: below zero a signal's; None where none is known.

    The kernel kills with SIGKILL where memory runs out.
    """
    if code is None:
        return "was killed"
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
