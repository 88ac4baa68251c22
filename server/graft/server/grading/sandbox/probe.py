"""Whether scripts can be run safely here: a script in the sandbox tries what it should not be able to."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from graft.server.grading.sandbox.command import UNPRIVILEGED, Interpreter, bwrap_path
from graft.server.grading.sandbox.limits import Limits
from graft.server.grading.sandbox.processes import NotEnding
from graft.server.grading.sandbox.sandbox import Sandbox, SandboxFailed, Script
from graft.server.grading.sandbox.system_calls import UnknownProcessor
from graft.server.grading.sandbox.watch import ScriptFault

_MAX_SECONDS = 30.0
_ASK_SECONDS = 30.0
_WHERE = "import json, sys; print(json.dumps([sys.base_prefix, sys.version_info[:2]]))"
_OLDEST = (3, 11)
# What bwrap does first where something above it forbids namespaces, mounts or names of machines.
_FORBIDDEN = ("new namespace", "user ns", "/ slave", "old root", "pivot_root", "hostname")
_HOW = "; in a container, or as a service, what is around it must allow namespaces and mounts: see deploy/README.md"

# Raises at the first thing that is not as it should be.
_LOOKS = f"""
import ctypes, os, socket, time

PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS = 23, 39

def grade(sample, item):
    if os.getuid() != {UNPRIVILEGED}:
        raise SystemError(f"scripts run as user {{os.getuid()}}")
    libc = ctypes.CDLL(None, use_errno=True)
    if any(libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1 for number in range(64)):
        raise SystemError("scripts can come to have capabilities")
    if libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 or libc.memfd_create(b"x", 0) != -1:
        raise SystemError("system calls are not filtered")
    if os.path.exists("/proc/self"):
        raise SystemError("scripts see processes")
    for folder in ("/", "/tmp", "/dev", "/dev/shm", "/usr", "/var/tmp"):
        try:
            os.open(folder + "/written", os.O_CREAT | os.O_WRONLY)
        except OSError:
            continue
        raise SystemError(f"scripts can write in {{folder}}")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.socket(family)
        except OSError:
            continue
        raise SystemError("scripts can open sockets")
    for _ in range(item["num_processes"] + 1):
        try:
            child = os.fork()
        except OSError:
            return 1
        if not child:
            time.sleep(60)
    raise SystemError("the kernel does not count processes of a user namespace (Linux 5.14 does)")
"""


@dataclass(frozen=True, kw_only=True)
class Unavailable:
    """Why no script is run here, in words for whoever runs the server."""

    reason: str


NOT_ALLOWED = Unavailable(reason="the server's settings do not allow it (--python-graders)")


def probed(*, python: Path, limits: Limits) -> Sandbox | Unavailable:
    """A sandbox with `python` in it, or why there is none. Takes some hundred milliseconds."""
    try:
        interpreter = _interpreter(python)
    except SandboxFailed as error:
        return Unavailable(reason=f"the sandbox does not start: {error}")
    bwrap = bwrap_path()
    if bwrap is None:
        return Unavailable(reason="bwrap is not on the PATH: install bubblewrap")
    try:
        sandbox = Sandbox(bwrap=bwrap, interpreter=interpreter, limits=limits)
        # Its own time, as the machine may be busy while the server starts.
        trial = Sandbox(bwrap=bwrap, interpreter=interpreter, limits=replace(limits, seconds=_MAX_SECONDS))
        script = Script(source=_LOOKS, sample={}, item={"num_processes": limits.num_processes})
        found = trial.run(script)
    except (SandboxFailed, UnknownProcessor, NotEnding) as error:
        how = _HOW if any(words in str(error) for words in _FORBIDDEN) else ""
        return Unavailable(reason=f"the sandbox does not start: {error}{how}")
    if isinstance(found, ScriptFault):
        last = found.details.strip().rpartition("\n")[2].removeprefix("SystemError: ")
        what = "does not hold" if found.kind == "raised" else "does not start"
        return Unavailable(reason=f"the sandbox with {python} {what}: {last}{_remedy(interpreter)}")
    return sandbox


def _remedy(interpreter: Interpreter) -> str:
    """Where the server runs as root, bwrap runs as another user."""
    closed = [folder for folder in (interpreter.prefix, *interpreter.prefix.parents) if not folder.stat().st_mode & 1]
    if os.geteuid() or not closed:
        return ""
    return f"; user {UNPRIVILEGED} cannot enter {closed[-1]}: name another Python, such as /usr/bin/python3"


def _interpreter(python: Path) -> Interpreter:
    """Raises `SandboxFailed`."""
    try:
        said = subprocess.run(
            [python, "-I", "-S", "-c", _WHERE], capture_output=True, check=True, timeout=_ASK_SECONDS, cwd="/"
        )
        prefix, version = json.loads(said.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxFailed(f"{python} is no Python that runs: {error}") from error
    if tuple(version) < _OLDEST:
        raise SandboxFailed(f"{python} is Python {version[0]}.{version[1]}; scripts run on 3.11 or newer")
    return Interpreter(executable=python, prefix=Path(prefix))
