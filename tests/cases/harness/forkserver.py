"""`graft` in a forked child: the imports are there already, so that a command costs about a second.

Run as a process of its own (`ForkServer` starts it): it reads one JSON request a line and answers each with one. A
child takes no part in the parent's threads, so there must be none: OpenMP has a single thread, since forking after a
parallel region hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_QUIET = {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
_PRELOADED = (
    "torch", "transformers", "safetensors.torch", "tokenizers", "peft", "bitsandbytes", "compressed_tensors", "yaml",
    "graft.client", "graft.training.pretrain.job", "graft.training.finetune.job", "graft.training.compress.quantize",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended. `code` is None where it had to be killed after its time."""

    code: int | None
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


class ForkServer:
    """The process that forks."""

    def __init__(self, folder: Path) -> None:
        """`folder` takes what commands say."""
        self._folder = folder
        self._count = 0
        command = [sys.executable, "-m", "tests.cases.harness.forkserver"]
        environment = {**os.environ, **_ONE_THREAD, **_QUIET}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[3],
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        seconds: float = 60.0,
        max_file_bytes: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run `graft ARGV…` in `cwd`; no file may grow above `max_file_bytes`."""
        self._count += 1
        out, err = (self._folder / f"{self._count}.{kind}" for kind in ("out", "err"))
        request = {
            "argv": list(argv), "cwd": str(cwd), "seconds": seconds, "max_file_bytes": max_file_bytes,
            "environment": dict(environment or {}), "out": str(out), "err": str(err),
        }  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the fork server ended"
        said = [path.read_text(encoding="utf-8", errors="replace") for path in (out, err)]
        return Outcome(code=json.loads(answer), out=said[0], err=said[1])

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)


def _serve() -> None:
    for module in _PRELOADED:
        __import__(module)
    import torch

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    for line in sys.stdin:
        answers.write(json.dumps(_run(json.loads(line))) + "\n")
        answers.flush()


def _run(request: dict[str, Any]) -> int | None:
    child = os.fork()
    if child == 0:
        _become(request)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # nothing that a command began outlives it
    code = os.waitstatus_to_exitcode(status)
    return None if code == -signal.SIGKILL else code


def _become(request: dict[str, Any]) -> None:
    """The child: its own session, folder, streams and limits, then the command; never returns."""
    code = 1
    try:
        os.setsid()
        os.chdir(request["cwd"])
        os.environ.update(request["environment"])
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if request["max_file_bytes"] is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # EFBIG in place of death, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["max_file_bytes"],) * 2)
        code = _command(request["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _command(argv: Sequence[str]) -> int:
    from graft.cli.main import main

    sys.argv = ["graft", *argv]
    try:
        return main(argv)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


if __name__ == "__main__":
    _serve()
