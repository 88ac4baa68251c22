"""A process that asks a sandbox for what never ends, and says when its script is there, or when it is about to be."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from graft.server.grading.sandbox import sandbox as module
from graft.server.grading.sandbox.command import sandboxed
from graft.server.grading.sandbox.limits import Limits
from graft.server.grading.sandbox.probe import probed
from graft.server.grading.sandbox.processes import FirstProcess
from graft.server.grading.sandbox.sandbox import Sandbox, Script

# So many more mounts than needed that the first process is still at them when the server is killed.
_NUM_MOUNTS = 200


class _Loud(FirstProcess):
    def before_others(self) -> None:
        """The first process is there, and at its mounts. Before them it waits for bwrap to map its ids, for ever where
        bwrap is killed in these microseconds: a process that gets no script.
        """
        super().before_others()
        while _num_mounts(self.pid) == _num_mounts(os.getpid()):
            pass
        _say("made")

    def memory_bytes(self) -> int:
        """First asked when the script's process is ready."""
        _say("ready")
        return super().memory_bytes()


def _num_mounts(pid: int) -> int:
    return Path(f"/proc/{pid}/mountinfo").read_bytes().count(b"\n")


def _say(when: str) -> None:
    if when == sys.argv[3]:
        os.write(1, b"now\n")


def _slow(*args: Any, **kwargs: Any) -> list[str]:
    command = _command(*args, **kwargs)
    at = command.index("--dev")
    return [*command[:at], *("--ro-bind", "/usr", "/usr") * _NUM_MOUNTS, *command[at:]]


_command = sandboxed


def main() -> None:
    """`python`, the limit of memory by which its processes are known, and when to speak."""
    limits = replace(Limits(), seconds=1000, memory_bytes=int(sys.argv[2]))
    sandbox = probed(python=Path(sys.argv[1]), limits=limits)
    assert isinstance(sandbox, Sandbox)
    vars(module)["FirstProcess"] = _Loud
    if sys.argv[3] == "made":
        vars(module)["sandboxed"] = _slow
    script = Script(source="import time\ndef grade(sample, item): time.sleep(1000)", sample={}, item={})
    # As the server does: in a thread.
    threading.Thread(target=sandbox.run, args=(script,)).start()


if __name__ == "__main__":
    main()
