"""`python -m tests.training.worker.killing.standin_worker SERVER FOLDER NAME BASE`: the real worker, whose children
are `standin`, with a wall clock that is an hour ahead at every second look, and behind at the others (F16).
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from grpc import _channel

from graft.training.runtime.parent import end_with
from graft.training.worker.supervising.worker import Worker, WorkerSettings


def main(target: str, folder: str, name: str, base: str) -> int:
    # gRPC makes a deadline of the wall clock and takes it off again within microseconds: there it stands still.
    vars(_channel)["time"] = SimpleNamespace(**vars(time))
    true, signs = time.time, itertools.cycle((1, -1))
    time.time = lambda: true() + next(signs) * 3600
    settings = WorkerSettings(target=target, folder=Path(folder), name=name, token=os.environ.get("GRAFT_TOKEN"))
    worker = Worker(
        settings,
        find_base=lambda name: Path(base),
        command=lambda attempt: [sys.executable, "-m", "tests.training.worker.killing.standin", str(attempt)],
    )
    worker.run()
    return 0


if __name__ == "__main__":
    end_with(os.getppid())  # the tests: a fork for it there would be one beside gRPC's threads
    sys.exit(main(*sys.argv[1:]))
