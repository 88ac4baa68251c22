"""`python -m tests.tools.golden.walked FILE COMMAND …`: runs `graft COMMAND …` and writes down which files it enters.

At each SIGUSR1 and at the end, the files of `graft` whose functions were called since the last time go to FILE, as
JSON, in the order in which they were first entered. What runs while a module is imported does not count.
"""

from __future__ import annotations

import inspect
import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any


class Walk:
    """A profiler in the sense of `sys.setprofile`."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._modules: dict[str, None] = {}

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if event != "call" or not frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # the body of a module or a class
            return
        name = frame.f_globals.get("__name__", "")
        if name.startswith("graft.") and name not in self._modules and not _at_import(frame):
            self._modules[name] = None

    def write(self, *_: object) -> None:
        found = [name for name in self._modules if not name.startswith("graft.v1.")]
        self._modules = {}
        partial = self._out.with_suffix(".partial")
        partial.write_text(json.dumps(found))
        partial.replace(self._out)


def _at_import(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "<module>" and str(frame.f_globals.get("__name__")).startswith("graft."):
            return True
        frame = frame.f_back
    return False


def main() -> int:
    walk = Walk(Path(sys.argv[1]))
    signal.signal(signal.SIGUSR1, walk.write)
    from graft.cli.main import main as graft

    threading.setprofile(walk)
    sys.setprofile(walk)
    try:
        return graft(sys.argv[2:])
    finally:
        sys.setprofile(None)
        walk.write()


if __name__ == "__main__":
    sys.exit(main())
