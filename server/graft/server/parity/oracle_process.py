"""The process that computes references with peft: started when it is needed, ended when it was idle for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.server.engine.process.process import how_it_ended
from graft.server.errors import ParityFailed, ParityUnavailable
from graft.server.parity.effort import Effort
from graft.server.runtime.background import watched

_log = logging.getLogger(__name__)

PEFT_FORMS = (ServingForm.NF4, ServingForm.BF16, ServingForm.FP32)
"""The forms in which peft holds a base as the engine does; for any other, bfloat16 is the reference."""
_MAX_LINE_BYTES = 1 << 20
_NUM_LAST_BYTES = 4000


def peft_form(form: ServingForm) -> ServingForm:
    """In which the reference of a version that is served so is computed."""
    return form if form in PEFT_FORMS else ServingForm.BF16


class Unmeasurable(ParityUnavailable):
    """No reference can be computed on this base, whatever the adapter is."""


class PeftProcess:
    """References for adapters that brought none. One is computed at a time; memory is bounded by one base, or, where
    the base is read in layers, by its largest module.
    """

    def __init__(
        self,
        base_path: Path,
        form: ServingForm,
        *,
        timeout_seconds: float,
        effort: Effort | None = None,
        idle_seconds: float = 60.0,
        module: str = "graft.server.parity.oracle",
    ) -> None:
        self._base_path = base_path
        self._form = peft_form(form)
        self._timeout_seconds = timeout_seconds
        self._effort = effort or Effort(in_layers=False, seconds=0.0)
        self._took_seconds: float | None = None
        self._idle_seconds = idle_seconds
        self._module = module
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._closed = False

    async def reference(self, folder: Path, *, num_rows: int, num_tokens: int) -> Reference:
        """Rows of `num_tokens` that the adapter in `folder` draws, with their log-probabilities.

        Raises `ParityFailed` where peft cannot compute it, `ParityUnavailable` where the process ends or is silent
        for longer than its time.
        """
        return await self._answered({"folder": str(folder), "num_rows": num_rows, "num_tokens": num_tokens})

    @property
    def in_layers(self) -> bool:
        """Whether rows are scored, and none are drawn."""
        return self._effort.in_layers

    @property
    def expected_seconds(self) -> float:
        """What the last one took; before the first, an estimate."""
        return self._effort.seconds if self._took_seconds is None else self._took_seconds

    async def scored(self, folder: Path, rows: Sequence[Sequence[int]]) -> Reference:
        """The rows with the log-probabilities that the adapter in `folder` gives their tokens.

        Raises as `reference` does, and `Unmeasurable`.
        """
        start = time.monotonic()
        found = await self._answered({"folder": str(folder), "rows": [list(row) for row in rows]})
        self._took_seconds = time.monotonic() - start
        return found

    async def _answered(self, request: Mapping[str, object]) -> Reference:
        async with self._turn:
            self._stay()
            try:
                answer = await self._ask(request)
            except TimeoutError:
                await self._end()
                raise ParityUnavailable(
                    f"the process that computes the reference of a foreign adapter said nothing for "
                    f"{self._timeout_seconds:g} s: try again, or start the server with a longer "
                    "--parity-timeout-seconds, or with --parity recorded"
                ) from None
            except BaseException:
                await self._end()
                raise
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._let_go)
        if "unmeasurable" in answer:
            raise Unmeasurable(f"{answer['unmeasurable']}: start the server with --parity auto, or --parity recorded")
        if "error" in answer:
            raise ParityFailed(
                f"peft cannot compute what the adapter should say ({answer['error']}), so nothing shows that it is "
                "served rightly: make it loadable with peft, or start the server with --parity recorded"
            )
        return Reference(form=self._form, rows=tuple(map(_row, answer["rows"])))

    def warm(self) -> None:
        """Start the process, which then loads the base, so that whoever asks next does not wait for that."""
        if self._process is None and not self._closed and not self._turn.locked():
            self._warming = watched(self._warm(), "starting the process that computes references")

    async def _warm(self) -> None:
        async with self._turn:
            if self._process is None and not self._closed:
                self._stay()
                with contextlib.suppress(OSError):  # whoever asks is told
                    await self._started()
                self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._let_go)

    async def close(self) -> None:
        """End the process and wait for it; whoever waits for a reference is told."""
        self._closed = True
        self._stay()
        self._kill()
        async with self._turn:
            await self._end()

    async def _ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        if self._closed:
            raise ParityUnavailable("the server is shutting down: send the request to another replica")
        process = self._process
        if process is None or process.returncode is not None:
            process = await self._started()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(ConnectionError):  # then it has ended, and its answer is empty
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
        answer = await self._heard(process.stdout)
        if answer is None:
            raise ParityUnavailable(await self._obituary(process))
        return answer

    async def _heard(self, stream: asyncio.StreamReader) -> dict[str, Any] | None:
        """The answer, behind any number of signs of life; None where the process has ended. Raises TimeoutError."""
        told = -1
        while True:
            async with asyncio.timeout(self._timeout_seconds):  # of silence: a large base takes as long as it takes
                line = await stream.readline()
            if not line.endswith(b"\n"):
                return None
            answer: dict[str, Any] = json.loads(line)
            if "progress" not in answer:
                return answer
            if (tenths := int(answer["progress"] * 10)) > told:
                told = tenths
                _log.info("the reference of a foreign adapter: %d %% of the base is read", tenths * 10)

    async def _started(self) -> asyncio.subprocess.Process:
        await self._end()
        _log.info("peft is started to compute what foreign adapters should say; the first answer takes a while")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by _end
        # More threads would compete with the engine's, and so would the accelerator's memory.
        threads = str(self._effort.threads)
        quiet = {"OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
        how = (threads,) if self.in_layers else ()
        command = (sys.executable, "-m", self._module, str(self._base_path), self._form.value, *how)
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._errors,
            limit=_MAX_LINE_BYTES,
            env={**os.environ, **quiet, "HF_HUB_OFFLINE": "1"},
        )
        return self._process

    async def _obituary(self, process: asyncio.subprocess.Process) -> str:
        code = await process.wait()
        last = b""
        if self._errors is not None:
            self._errors.seek(0)
            last = self._errors.read()[-_NUM_LAST_BYTES:]
        how, said = how_it_ended(code), last.decode(errors="replace").strip()
        _log.error("the process that computes references with peft %s; it last said: %s", how, said or "nothing")
        return (
            f"the process that computes what an adapter should say {how}: try again, or start the server with "
            "--parity recorded"
        )

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _let_go(self) -> None:
        self._leaving = watched(self._leave(), "ending the idle process that computes references")

    async def _leave(self) -> None:
        async with self._turn:
            await self._end()

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _end(self) -> None:
        self._kill()
        process, self._process = self._process, None
        if process is not None:
            await process.wait()
        if self._errors is not None:
            self._errors.close()
            self._errors = None


def _row(row: Mapping[str, Any]) -> ReferenceRow:
    return ReferenceRow(
        token_ids=tuple(row["token_ids"]),
        num_prompt_tokens=row.get("num_prompt_tokens", 1),
        logprobs=tuple(row["logprobs"]),
    )
