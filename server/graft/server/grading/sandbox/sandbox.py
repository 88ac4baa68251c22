"""One script, once: started in a sandbox, watched, and ended with all that it began."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import select
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Literal

from graft.server.grading.sandbox import runner
from graft.server.grading.sandbox.command import ENVIRONMENT, UNPRIVILEGED, Interpreter, sandboxed
from graft.server.grading.sandbox.limits import Limits
from graft.server.grading.sandbox.processes import FirstProcess
from graft.server.grading.sandbox.system_calls import call_filter

_START_SECONDS = 10.0
_TICK_SECONDS = 0.02
_CHUNK_BYTES = 1 << 16
_MAX_ANSWER_BYTES = 1 << 16
_MAX_SHOWN = 1000

Kind = Literal["raised", "time", "memory", "output", "ended", "result"]


class SandboxFailed(OSError):
    """The sandbox itself could not be started: no script's fault."""


@dataclass(frozen=True, kw_only=True)
class ScriptFault:
    """Why a script gave no reward: what kind it is, and in words with the limit."""

    kind: Kind
    details: str


@dataclass(frozen=True, kw_only=True)
class Script:
    """A grader's source, and what it is called with. Without `calls` it is only read: can it be called?"""

    source: str
    sample: Mapping[str, Any] = field(default_factory=dict)
    item: Mapping[str, Any] = field(default_factory=dict)
    calls: bool = True

    def data(self) -> bytes:
        return json.dumps(asdict(self)).encode()


class Sandbox:
    """Runs scripts, each in a sandbox of its own. May be asked by several threads at once.

    A sandbox ends with the thread that began it.
    """

    def __init__(self, *, bwrap: str, interpreter: Interpreter, limits: Limits) -> None:
        """Raises `UnknownProcessor`."""
        self.limits = limits
        self._bwrap = bwrap
        self._interpreter = interpreter
        self._filter = call_filter()
        self._code = inspect.getsource(runner)

    def run(self, script: Script) -> float | ScriptFault:
        """The reward. Raises `SandboxFailed`, `NotEnding`."""
        with self._started() as (process, first):
            watch = _Watch(process, first, self.limits)
            return watch.answer(script.data())

    @contextlib.contextmanager
    def _started(self) -> Iterator[tuple[subprocess.Popen[bytes], FirstProcess]]:
        with contextlib.ExitStack() as stack:
            process, info = stack.enter_context(self._spawned())
            first = _first_process(process, info)
            try:
                first.before_others()
                yield process, first
            finally:
                first.end()

    @contextlib.contextmanager
    def _spawned(self) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        info, info_fd = os.pipe()
        filter_fd, filter_in = os.pipe()
        os.write(filter_in, self._filter)
        os.close(filter_in)
        limits = json.dumps(self.limits.of_a_process())
        try:
            process = subprocess.Popen(
                sandboxed(self._bwrap, self._interpreter, self._code, [limits], info_fd=info_fd, filter_fd=filter_fd),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(info_fd, filter_fd),
                env=ENVIRONMENT,
                cwd="/",
                **_unprivileged(),
            )
        except OSError as error:
            os.close(info)
            raise SandboxFailed(f"bwrap did not start: {error}") from error
        finally:
            os.close(info_fd)
            os.close(filter_fd)
        try:
            yield process, info
        finally:
            os.close(info)
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(BrokenPipeError):
                    _there(pipe).close()


def _unprivileged() -> dict[str, Any]:
    """Root's processes are not counted by the kernel, and root's files are there for root in any namespace."""
    return {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []} if os.geteuid() == 0 else {}


def _first_process(process: subprocess.Popen[bytes], info: int) -> FirstProcess:
    """It waits for its input until it is held, so it is still there. Raises `SandboxFailed`."""
    said = b""
    deadline = time.monotonic() + _START_SECONDS
    poll = select.poll()
    poll.register(info, select.POLLIN)
    while b"}" not in said:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise SandboxFailed(f"bwrap made no sandbox within {_START_SECONDS:g} s")
        if not (chunk := os.read(info, 4096)):
            raise SandboxFailed(_last_words(process))
        said += chunk
    try:
        return FirstProcess(int(json.loads(said)["child-pid"]))
    except ProcessLookupError:
        raise SandboxFailed(_last_words(process)) from None


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """Of bwrap, which is ending."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_START_SECONDS)
    process.kill()
    words = _there(process.stderr).read(_MAX_SHOWN).decode(errors="replace").strip()
    return words or f"bwrap ended with code {process.returncode}"


class _Watch:
    """Gives a script its input, and reads what it says until it has answered or done too much."""

    def __init__(self, process: subprocess.Popen[bytes], first: FirstProcess, limits: Limits) -> None:
        self._process = process
        self._first = first
        self._limits = limits
        self._stdin, self._stdout = _there(process.stdin), _there(process.stdout)
        self._stderr = _there(process.stderr)
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
        if time.monotonic() > self._deadline:
            return ScriptFault(kind="time", details=f"the script did not end within {limits.seconds:g} s")
        if self._num_printed > limits.output_bytes or len(self._said) > _MAX_ANSWER_BYTES:
            return ScriptFault(kind="output", details=f"the script printed more than {limits.output_bytes} bytes")
        if self._first.memory_bytes() > limits.memory_bytes:
            said = f"the script's processes held more than {limits.memory_bytes >> 20} MiB of memory"
            return ScriptFault(kind="memory", details=said)
        return None

    def _ended(self) -> ScriptFault:
        try:
            code = self._process.wait(timeout=max(0.1, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return ScriptFault(kind="ended", details="the script closed its output before grade returned")
        # bwrap says signals as a shell does.
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
        return ScriptFault(kind="raised", details=str(said["fault"])[:_MAX_ANSWER_BYTES])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ScriptFault(kind="result", details="the script wrote something else in place of its reward")


def _there(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
