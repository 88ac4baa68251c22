"""What jobs leave on a worker's disk: their users' rows go with them, whoever ended them."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from graft.client import Client, GraftClientError
from graft.training.worker.supervising.process import LOG
from graft.v1 import job_pb2 as pb

_ENDED = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED)


def clear(folder: Path) -> None:
    """Of a job that has ended here."""
    shutil.rmtree(folder, ignore_errors=True)


def clear_failed(folder: Path) -> None:
    """Of a job that failed: what its training said of it stays for the operator."""
    for path in folder.glob("*"):
        if not path.name.startswith("attempt-"):
            _remove(path)
            continue
        for own in path.glob("*"):
            if own.name != LOG:
                _remove(own)


def clear_ended(client: Client, jobs: Path) -> None:
    """Of all that lie in the folder and have ended elsewhere, as the server says. Where it says nothing, they stay:
    another worker may go on from them.
    """
    for folder in sorted(jobs.glob("ftjob-*")):
        with contextlib.suppress(GraftClientError):
            state = client.get_job(folder.name).state
            if state == pb.JOB_STATE_FAILED:
                clear_failed(folder)
            elif state in _ENDED:
                clear(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
