"""A script that runs: it is given its input, and ended when it has answered or done too much."""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Literal

from graft.server.grading.sandbox.limits import Limits
from graft.server.grading.sandbox.processes import FirstProcess, exit_code

_TICK_SECONDS = 0.02
_CHUNK_BYTES = 1 << 16
_MAX_ANSWER_BYTES = 1 << 16
_MAX_SHOWN = 1000
_MAX_SAID = 4000

Kind = Literal["raised", "time", "memory", "output", "ended", "result"]


@dataclass(frozen=True, kw_only=True)
class ScriptFault:
    """Why a script gave no reward: what kind it is, and in words with the limit."""

    kind: Kind
    details: str


class Watch:
    """Gives a script its input, and reads what it says until it has answered or done too much."""

    def __init__(
        self, process: subprocess.Popen[bytes], first: FirstProcess, limits: Limits, is_unwanted: Callable[[], bool]
    ) -> None:
        self._process = process
        self._is_unwanted = is_unwanted
        self._first = first
        self._limits = limits
        self._stdin, self._stdout = there(process.stdin), there(process.stdout)
        self._stderr = there(process.stderr)
        self._said = b""
        self._printed = b""
        self._num_printed = 0
        self._deadline = time.monotonic() + limits.seconds
        self._input = memoryview(b"")

    def answer(self, data: bytes) -> float | ScriptFault:
        self._input = memoryview(data)
        with selectors.DefaultSelector() as selector:
            for pipe, event in (
                (self._stdin, selectors.EVENT_WRITE),
                (self._stdout, selectors.EVENT_READ),
                (self._stderr, selectors.EVENT_READ),
            ):
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, event)
            while b"\n" not in self._said:
                if (fault := self._too_much()) is not None:
                    return fault
                for key, _ in selector.select(_TICK_SECONDS):
                    if not self._moved(key.fileobj):
                        selector.unregister(key.fileobj)
                if self._stdout not in [key.fileobj for key in selector.get_map().values()]:
                    return self._ended()
        return _reward(self._said.partition(b"\n")[0])

    def _moved(self, pipe: Any) -> bool:
        """Move some bytes; False where nothing more goes through the pipe."""
        try:
            if pipe is self._stdin:
                self._input = self._input[os.write(pipe.fileno(), self._input[:_CHUNK_BYTES]) :]
                if not self._input:
                    pipe.close()
                return bool(self._input)
            chunk = os.read(pipe.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        if pipe is self._stdout:
            self._said += chunk
        else:
            self._num_printed += len(chunk)
            self._printed = (self._printed + chunk)[-_MAX_SHOWN:]
        return bool(chunk)

    def _too_much(self) -> ScriptFault | None:
        limits = self._limits
        if self._is_unwanted():
            return ScriptFault(kind="ended", details="nobody waits for the script's reward any more")
        if time.monotonic() > self._deadline:
            return self._too_long()
        if self._num_printed > limits.output_bytes or len(self._said) > _MAX_ANSWER_BYTES:
            return ScriptFault(kind="output", details=f"the script printed more than {limits.output_bytes} bytes")
        if self._first.memory_bytes() > limits.memory_bytes:
            said = f"the script's processes held more than {limits.memory_bytes >> 20} MiB of memory"
            return ScriptFault(kind="memory", details=said)
        return None

    def _too_long(self) -> ScriptFault:
        return ScriptFault(kind="time", details=f"the script did not end within {self._limits.seconds:g} s")

    def _ended(self) -> ScriptFault:
        code = exit_code(self._process.pid, max(0.1, self._deadline - time.monotonic()))
        if code is None:
            return ScriptFault(kind="ended", details="the script closed its output before grade returned")
        # bwrap says signals as a shell does.
        if code == 128 + signal.SIGXCPU:
            return self._too_long()
        how = f"was ended by signal {code - 128}" if code > 128 else f"ended with code {code}"
        printed = self._printed.decode(errors="replace").strip()
        return ScriptFault(
            kind="ended", details=f"the script {how} before grade returned" + (f": {printed}" if printed else "")
        )


def _reward(line: bytes) -> float | ScriptFault:
    """What the script's process wrote: by now nobody's word but its own."""
    try:
        said = json.loads(line)
        if "reward" in said:
            reward = float(said["reward"])
            if math.isfinite(reward):
                return reward
            return ScriptFault(kind="result", details=f"grade returned {reward}: it returns a finite number")
        # Halves of a surrogate pair are no text that could be handed on.
        words = str(said["fault"])[:_MAX_SAID].encode(errors="replace").decode()
        return ScriptFault(kind="raised", details=words)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return ScriptFault(kind="result", details="the script wrote something else in place of its reward")


def there(pipe: IO[bytes] | None) -> IO[bytes]:
    """A pipe that was asked for."""
    assert pipe is not None
    return pipe
