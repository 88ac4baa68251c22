"""Work in processes of their own that begin with all libraries in memory: one process imports them and is forked, so
that each of sixty pieces of work is spared the imports, and has a peak of memory of its own.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from graft.bench.training.alignment.contender import memory
from graft.training.errors import TrainingError, first_line
from graft.training.runtime.parent import end_with

NUM_THREADS = 1
"""Of each: the work that is not timed is done by two at once."""
_LIBRARIES = (
    *("bitsandbytes", "transformers.models.llama.modeling_llama", "graft.training.finetune.job"),
    *("graft.training.adapt.compiler.compilation", "graft.bench.training.methods.reference"),
)


class StageFailed(TrainingError, RuntimeError):
    """A piece of work ended with an error."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a process came to."""

    value: Any
    peak_bytes: int
    """Of the process, with the libraries."""
    own_bytes: int
    """Of it what came after the libraries."""


@contextmanager
def forking(libraries: Sequence[str] = _LIBRARIES) -> Iterator[None]:
    """Inside, ``forked`` works."""
    settings = {"OMP_NUM_THREADS": str(NUM_THREADS), "OMP_WAIT_POLICY": "PASSIVE"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    forkserver.set_forkserver_preload(list(libraries))
    forkserver.ensure_running()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    try:
        yield
    finally:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]


def forked(work: Callable[..., Any], *arguments: Any, log: Path) -> Done:
    """What ``work`` returns, which goes through a pipe as its arguments do. Raises ``StageFailed`` with what it said
    last; all it said goes into ``log``.
    """
    context = get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_worked, args=(theirs, work, arguments, log), daemon=True)
    process.start()
    theirs.close()
    try:
        error, done = ours.recv()
    except EOFError:
        error, done = "", None
    process.join()
    if done is None:
        why = error or f"the process ended with {process.exitcode}: {_last_line(log)}"
        raise StageFailed(why)
    found: Done = done
    return found


def graft(arguments: Sequence[str], *, log: Path) -> Done:
    """``graft ARGUMENTS``. Raises ``StageFailed``."""
    return forked(run_graft, arguments, log=log)


def run_graft(arguments: Sequence[str]) -> None:
    """Raises ``SystemExit`` where the command fails: it has said why."""
    from graft.cli.main import main

    if code := main(arguments):
        raise SystemExit(code)


def _worked(connection: Connection, work: Callable[..., Any], arguments: Sequence[Any], log: Path) -> None:
    end_with(os.getppid())
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    before = memory("VmRSS")
    try:
        value = work(*arguments)
    except SystemExit as error:
        connection.send((f"ended with {error.code}: {_last_line(log)}", None))
    except Exception as error:
        traceback.print_exc()
        connection.send((first_line(error), None))
    else:
        peak = memory("VmHWM")
        connection.send(("", Done(value=value, peak_bytes=peak, own_bytes=peak - before)))


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][-500:] if lines else "it said nothing"
