"""One script, once: started in a sandbox, and ended with all that it began."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graft.server.grading.sandbox import runner
from graft.server.grading.sandbox.command import ENVIRONMENT, UNPRIVILEGED, Interpreter, sandboxed
from graft.server.grading.sandbox.limits import Limits
from graft.server.grading.sandbox.processes import FirstProcess, NotEnding, exit_code
from graft.server.grading.sandbox.system_calls import call_filter
from graft.server.grading.sandbox.watch import ScriptFault, Watch, there

_START_SECONDS = 30.0
_LOOK_SECONDS = 0.001
_MAX_SHOWN = 1000
# Python alone takes more.
_LEAST_BYTES = 4 << 20


class SandboxFailed(OSError):
    """The sandbox itself could not be started or watched: no script's fault."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """A grader's source, and what it is called with. Without `calls` it is only read: can it be called?"""

    source: str
    sample: Mapping[str, Any] = field(default_factory=dict)
    item: Mapping[str, Any] = field(default_factory=dict)
    calls: bool = True

    def data(self) -> bytes:
        """Raises `RecursionError` where `sample` or `item` are nested too deeply."""
        return json.dumps(vars(self)).encode()


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

    def run(self, script: Script, is_unwanted: Callable[[], bool] = lambda: False) -> float | ScriptFault:
        """The reward. Raises `SandboxFailed`, `NotEnding`, `RecursionError`.

        A script is ended once `is_unwanted`, which is asked from time to time.
        """
        data = script.data()
        try:
            with self._started() as (process, first):
                return Watch(process, first, self.limits, is_unwanted).answer(data)
        except (SandboxFailed, NotEnding):
            raise
        except OSError as error:
            raise SandboxFailed(f"a script could not be watched: {error}") from error

    @contextlib.contextmanager
    def _started(self) -> Iterator[tuple[subprocess.Popen[bytes], FirstProcess]]:
        deadline = time.monotonic() + _START_SECONDS
        with contextlib.ExitStack() as stack:
            process, info = stack.enter_context(self._spawned())
            first = _first_process(process, info, deadline)
            try:
                first.before_others()
                _wait_until_ready(process, first, deadline)
                yield process, first
            finally:
                first.end()

    @contextlib.contextmanager
    def _spawned(self) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        with contextlib.ExitStack() as stack:
            info, info_fd = os.pipe()
            stack.callback(os.close, info)
            with contextlib.ExitStack() as given:
                given.callback(os.close, info_fd)
                filter_fd, filter_in = os.pipe()
                given.callback(os.close, filter_fd)
                try:
                    os.write(filter_in, self._filter)
                finally:
                    os.close(filter_in)
                process = self._begun(info_fd, filter_fd)
            stack.callback(_close, process)
            yield process, info

    def _begun(self, info_fd: int, filter_fd: int) -> subprocess.Popen[bytes]:
        limits = json.dumps(self.limits.of_a_process())
        try:
            return subprocess.Popen(
                [
                    *_unprivileged(),
                    *sandboxed(
                        self._bwrap, self._interpreter, self._code, [limits], info_fd=info_fd, filter_fd=filter_fd
                    ),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(info_fd, filter_fd),
                env=ENVIRONMENT,
                cwd="/",
                # Signals to the server's terminal end no script, and what bwrap has begun is ended with it.
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxFailed(f"bwrap did not start: {error}") from error


def _close(process: subprocess.Popen[bytes]) -> None:
    """With what bwrap made and has not yet bound to its own life. Nobody has waited for it: the id is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(BrokenPipeError):
            there(pipe).close()


def _unprivileged() -> list[str]:
    """Root's processes are not counted by the kernel, and root's files are there for root in any namespace.

    By a program, for `subprocess` changes users only in a process that it has forked, where handlers of libraries run
    that may crash it (gRPC's do); any other it begins by vfork.
    """
    if os.geteuid():
        return []
    user = str(UNPRIVILEGED)
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"]


def _first_process(process: subprocess.Popen[bytes], info: int, deadline: float) -> FirstProcess:
    """It waits for its input until it is held, so it is still there. Raises `SandboxFailed`."""
    said = b""
    while b"}" not in said:
        if not _readable(info, deadline):
            raise SandboxFailed(f"bwrap made no sandbox within {_START_SECONDS:g} s")
        if not (chunk := os.read(info, 4096)):
            raise SandboxFailed(_last_words(process))
        said += chunk
    try:
        return FirstProcess(int(json.loads(said)["child-pid"]))
    except ProcessLookupError:
        raise SandboxFailed(_last_words(process)) from None


def _wait_until_ready(process: subprocess.Popen[bytes], first: FirstProcess, deadline: float) -> None:
    """Until the script's process holds its limits, and its namespace ends when bwrap does, so with this server: what
    is killed before that leaves a process that gets no script. Raises `SandboxFailed`.
    """
    output = there(process.stdout).fileno()
    if not _readable(output, deadline):
        raise SandboxFailed(f"no Python began in the sandbox within {_START_SECONDS:g} s")
    if os.read(output, 1) != b"\n":
        raise SandboxFailed(_last_words(process))
    while not first.is_waiting():
        if time.monotonic() > deadline:
            raise SandboxFailed(f"bwrap made no sandbox within {_START_SECONDS:g} s")
        time.sleep(_LOOK_SECONDS)
    if first.memory_bytes() < _LEAST_BYTES:
        raise SandboxFailed("what its processes hold in memory cannot be read from /proc")


def _readable(handle: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """Of bwrap, which is ending."""
    code = exit_code(process.pid, _START_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    words = there(process.stderr).read(_MAX_SHOWN).decode(errors="replace").strip()
    return words or (f"bwrap ended with code {code}" if code is not None else "bwrap said nothing, and did not end")
