"""A process that asks a sandbox for what never ends, and says when it runs."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

from graft.server.grading.sandbox import sandbox as module
from graft.server.grading.sandbox.limits import Limits
from graft.server.grading.sandbox.probe import probed
from graft.server.grading.sandbox.processes import FirstProcess
from graft.server.grading.sandbox.sandbox import Sandbox, Script


class _Loud(FirstProcess):
    def before_others(self) -> None:
        super().before_others()
        os.write(1, b"the script runs\n")


def main() -> None:
    """`python`, and the limit of memory by which its processes are known."""
    limits = replace(Limits(), seconds=1000, memory_bytes=int(sys.argv[2]))
    sandbox = probed(python=Path(sys.argv[1]), limits=limits)
    assert isinstance(sandbox, Sandbox)
    vars(module)["FirstProcess"] = _Loud
    script = Script(source="import time\ndef grade(sample, item): time.sleep(1000)", sample={}, item={})
    # As the server does: in a thread.
    threading.Thread(target=sandbox.run, args=(script,)).start()


if __name__ == "__main__":
    main()
