"""Processes of a sandbox as the system sees them: what they hold, and their end."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
from collections.abc import Iterator
from pathlib import Path

_PAGE_BYTES = resource.getpagesize()
_END_SECONDS = 30.0


class NotEnding(OSError):
    """A sandbox's processes were killed and are still there."""


class FirstProcess:
    """The first process of a sandbox's namespace: whoever ends it, ends all that are in it.

    Held by its descriptor, so that no other process can come to have its id meanwhile.
    """

    def __init__(self, pid: int) -> None:
        """Raises `ProcessLookupError` where it has ended already."""
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def before_others(self) -> None:
        """Where the machine runs out of memory, the kernel ends these processes before any other."""
        for pid in (self.pid, *_descendants(self.pid)):
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/oom_score_adj").write_text("1000")

    def is_waiting(self) -> bool:
        """Whether it has come to where it waits for its children: all that it does for itself lies before that, such
        as binding its life to bwrap's.
        """
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
        except (OSError, IndexError):
            return False

    def memory_bytes(self) -> int:
        """Resident memory of the namespace's processes; what several share counts for each."""
        return sum(map(_resident_bytes, (self.pid, *_descendants(self.pid))))

    def end(self) -> None:
        """Kill the namespace, and wait until it is gone: the kernel reaps its first process last.

        Raises `NotEnding`.
        """
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        gone = poll.poll(_END_SECONDS * 1000)
        os.close(self._fd)
        if not gone:
            raise NotEnding(f"the sandbox's process {self.pid} was killed, and is there {_END_SECONDS:g} s later")


def exit_code(pid: int, seconds: float) -> int | None:
    """How a child of ours has ended, a signal as its negative number; None where it has not within so many seconds.

    It is not waited for: until somebody does, its id is nobody else's, and its group may be killed by it.
    """
    handle = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(max(0.0, seconds) * 1000):
            return None
    finally:
        os.close(handle)
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _descendants(pid: int) -> Iterator[int]:
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            yield child
            waiting.append(child)


def _children(pid: int) -> Iterator[int]:
    # Processes end while one reads of them.
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                yield from map(int, (thread / "children").read_text().split())


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0
