"""The command by which bubblewrap makes a sandbox: what stands in it, and who runs there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

UNPRIVILEGED = 65534
"""The user in the sandbox, and outside of it, too, where the server runs as root: root's processes are not counted."""

ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "PATH": "/usr/bin:/bin",
    # A script's rewards do not hang on the order of a set.
    "PYTHONHASHSEED": "0",
}
_TOP = ("bin", "lib", "lib32", "lib64")


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """The Python that runs scripts: its file, and the folder with its standard library."""

    executable: Path
    prefix: Path


def bwrap_path() -> str | None:
    """Where bubblewrap is; None where it is not installed."""
    return shutil.which("bwrap")


def sandboxed(
    bwrap: str, interpreter: Interpreter, code: str, arguments: Sequence[str], *, info_fd: int, filter_fd: int
) -> list[str]:
    """argv. `info_fd` is told the id of the sandbox's first process, from `filter_fd` comes the filter of its calls."""
    return [
        bwrap,
        *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--uid", str(UNPRIVILEGED), "--gid", str(UNPRIVILEGED), "--hostname", "sandbox", "--chdir", "/"),
        *("--info-fd", str(info_fd), "--seccomp", str(filter_fd)),
        *_files(interpreter),
        *("--", str(interpreter.executable), "-s", "-S", "-B", "-P", "-c", code, *arguments),
    ]


def _files(interpreter: Interpreter) -> Iterator[str]:
    """A root of the system's programs and one Python, in which nothing can be written, nor in memory: a file there is
    memory that no limit counts.
    """
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _TOP:
        path = Path("/", name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    yield from ("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache")
    if not interpreter.prefix.is_relative_to("/usr"):
        yield from ("--ro-bind", str(interpreter.prefix), str(interpreter.prefix))
    # No /proc: by it a script could write into the first process, which has no limits of its own.
    yield from ("--dev", "/dev", "--remount-ro", "/dev", "--remount-ro", "/")
