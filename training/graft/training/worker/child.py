"""`python -m graft.training.worker.child ATTEMPT`: one job's training, alone or as one of `torchrun`'s processes.

Exit status: 0 with ``trained.json`` in the attempt's folder; 143 (SIGTERM) when it was asked to stop, and has saved;
75 (EX_TEMPFAIL) where the server did not answer the training for long; otherwise with ``failure.json``, or without one
where nothing could be written any more.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from graft.training.runtime.startup import prepare
from graft.training.worker.lease import HOLD, LEASE, unmoved

if TYPE_CHECKING:
    from graft.training.worker.folder import JobFolder
    from graft.training.worker.tell import Tell
    from graft.training.worker.trained import Trained
    from graft.v1.job_pb2 import JobPlan

FAILED, FAILED_BY_USER, AWAY = 1, 2, 75


def main(attempt: Path) -> int:
    prepare()
    if os.environ.get("RANK", "0") == "0":  # of several processes the others end with it
        keep_the_lease(attempt.absolute().parent / HOLD)
    from graft.training.worker.folder import JobFolder
    from graft.training.worker.methods.adapting import is_first
    from graft.training.worker.plan import read_plan, write_plan
    from graft.training.worker.tell import FILE, Tell
    from graft.training.worker.trained import FILE as RESULT
    from graft.training.worker.trained import Failed

    job = JobFolder.read(attempt)
    lock = _alone(job.path) if is_first() else None
    if (attempt / RESULT).exists() or read_plan(attempt) is not None:
        return 0
    method, tell = (
        import_module(f"graft.training.worker.methods.{job.method}"),
        Tell(path=job.attempt / FILE),
    )
    train: Callable[[JobFolder, Tell], Trained] = method.train
    try:
        if job.spec.dry_run:
            if is_first():
                write_plan(_plan(method)(job, tell), attempt)
            return 0
        trained = train(job, tell)
    except Exception as error:
        code, status = _code(error)
        if status != FAILED_BY_USER and not status > 128:
            traceback.print_exc()
        if lock is not None and status < 128 and status != AWAY:
            Failed(code=code, message=_said(error)).write(job.attempt)
        return status
    if lock is not None:
        trained.write(job.attempt)
        os.close(lock)
    return 0


def _plan(method: ModuleType) -> Callable[[JobFolder, Tell], JobPlan]:
    """Raises ``ConfigurationError``."""
    from graft.training.errors import ConfigurationError

    found: Callable[[JobFolder, Tell], JobPlan] | None = getattr(method, "plan", None)
    if found is None:
        name = method.__name__.rpartition(".")[2]
        raise ConfigurationError(f"dry_run is known of supervised jobs, not of {name}: leave it out.")
    return found


def _alone(folder: Path) -> int:
    """A child of an earlier start may still save what it has; this one goes on from there."""
    lock = os.open(folder / "child.lock", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def keep_the_lease(hold: Path) -> None:
    """The worker says through the standard input, again and again, that the job is still its own.

    Where it says nothing for the whole lease, by a clock that nobody moves, this process ends at once: another worker
    may begin. Where the worker is gone, this saves the step that runs, if there is time.
    """
    seconds, source = float(os.environ[LEASE]), sys.stdin.fileno()

    def watch() -> None:
        heard = unmoved()
        while (left := heard + seconds - unmoved()) > 0:
            if select.select([source], [], [], left)[0]:
                if not os.read(source, 4096):
                    break
                heard = unmoved()
        else:
            os._exit(FAILED)
        hold.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(max(0.0, heard + seconds - unmoved()))
        os._exit(FAILED)

    threading.Thread(target=watch, name="lease", daemon=True).start()


def _code(error: Exception) -> tuple[str, int]:
    """What a failure is called in the job, and the exit status."""
    import torch

    from graft.adapters.errors import GraftError
    from graft.client import GraftClientError
    from graft.training.errors import ConfigurationError, DataError, Diverged, Interrupted, NotWritten
    from graft.training.reinforce.asking.grader_faults import GradersFailed
    from graft.training.worker.patience import is_final

    if isinstance(error, Interrupted):
        return "interrupted", error.exit_code
    if isinstance(error, GraftClientError) and not is_final(error):
        return "server_away", AWAY
    for kind, code in (
        (DataError, "invalid_training_file"),
        (Diverged, "diverged"),
        (ConfigurationError, "invalid_settings"),
        (NotWritten, "disk_refused"),
        (GradersFailed, "graders_failed"),
        (torch.OutOfMemoryError, "out_of_memory"),
        (MemoryError, "out_of_memory"),
    ):
        if isinstance(error, kind):
            return code, FAILED_BY_USER
    is_said = hasattr(error, "exit_code") or isinstance(error, GraftError)
    return ("training_failed", FAILED_BY_USER) if is_said else ("internal_error", FAILED)


def _said(error: Exception) -> str:
    from graft.training.errors import first_line

    return str(error) if hasattr(error, "exit_code") or hasattr(error, "reasons") else first_line(error)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
