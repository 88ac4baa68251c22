"""The server's side of the process in which Jinja renders: one request at a time, and a new process for a spent one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from graft.server.engine.process.process import how_it_ended
from graft.server.errors import BadInput, NotReady, Violation
from graft.server.prompting.rendering.bounds import CPU_SECONDS, MEMORY_BYTES, MEMORY_CODE, PROGRAM
from graft.server.prompting.rendering.exchange import Writing, exchange, receive
from graft.server.prompting.rendering.templates import (
    MAX_RENDERED_CHARACTERS,
    MAX_TEMPLATE_CHARACTERS,
    Job,
    Reading,
)
from graft.server.runtime.background import watched
from graft.server.runtime.tenant import current_tenant_or_none
from graft.server.runtime.turns import Turns

_log = logging.getLogger(__name__)
_MODULE = "graft.server.prompting.rendering.child"
# The processor time of a request ends in the kernel; this is for a process that does not run at all.
_WALL_SECONDS = 3.0
_START_SECONDS = 60.0
_RENDERED_TOGETHER = 256
_NUM_READINGS = 256
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TZ", "TZDIR")

_TIME = (
    f"takes more than {CPU_SECONDS * 1000:g} ms of processor time, the limit: take out loops that the values do not "
    "need, or make them shorter"
)
_MEMORY = f"takes more than {MEMORY_BYTES >> 20} MiB of memory, the limit: it repeats or keeps too much"


class TemplateProcess:
    """Jinja's templates, rendered and read in a child process that is replaced where one ends it."""

    def __init__(self, *, max_waiting: int = 320, module: str = _MODULE) -> None:
        """`max_waiting`: calls of one tenant that wait for the process."""
        self._module = module
        self._turns = Turns("templates to be rendered", max_waiting=max_waiting)
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[Any] | None = None
        self._closed = False
        self._readings: OrderedDict[tuple[str, str], Reading] = OrderedDict()

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Have the process wait for requests. Raises `OSError` where it does not start."""
        async with self._turns.turn(None):
            await self._running()

    async def close(self) -> None:
        """End the process; whoever waits for it is told."""
        self._closed = True
        self._kill()
        async with self._turns.turn(None):
            if self._starting is not None:
                self._starting.cancel()
                await asyncio.gather(self._starting, return_exceptions=True)
            await self._end()

    async def render(self, jobs: Sequence[Job], *, style: str = PROGRAM) -> list[str]:
        """Texts of all jobs, in their order. Raises `BadInput` with the field of the template that fails, `Overloaded`
        where too many of the tenant's requests wait, and `NotReady` where the process ended for another reason.
        """
        _check_lengths([(job.field, job.template) for job in jobs])
        made: list[str] = []
        writing, room = Writing(style), MAX_RENDERED_CHARACTERS
        # Not thousands at once: each part has its own time, and others' requests go between.
        for begin in range(0, len(jobs), _RENDERED_TOGETHER):
            some = jobs[begin : begin + _RENDERED_TOGETHER]
            texts = await self._asked(await writing.render(some, room=room), [job.field for job in some])
            made += map(str, texts)
            room -= sum(map(len, texts))
        return made

    async def read(self, templates: Sequence[str], *, style: str = PROGRAM) -> list[Reading]:
        """What each template reads, and why it cannot be used; one by one, as one may end the process."""
        # Taken at once: while a new one is read, others may take its place.
        found = {one: self._readings[style, one] for one in templates if (style, one) in self._readings}
        for one in [one for one in dict.fromkeys(templates) if one not in found]:
            found[one] = await self._read(one, style)
        self._readings.update({(style, one): reading for one, reading in found.items() if len(one) <= 65_536})
        while len(self._readings) > _NUM_READINGS:
            self._readings.popitem(last=False)
        return [found[one] for one in templates]

    async def _read(self, template: str, style: str) -> Reading:
        if len(template) > MAX_TEMPLATE_CHARACTERS:
            return Reading(faults=(_length_problem(template),))
        try:
            (said,) = await self._asked(Writing(style).read(template), ["template"])
        except BadInput as error:
            return Reading(faults=tuple(violation.problem for violation in error.violations))
        if "fault" in said:
            return Reading(faults=(str(said["fault"]),))
        return Reading(variables=tuple(map(str, said["variables"])), words=tuple(map(str, said["words"])))

    async def _asked(self, data: bytes, fields: Sequence[str]) -> list[Any]:
        # Whoever leaves does not leave its answer to the next.
        return await self._turns.given(current_tenant_or_none(), lambda: self._ask(data, fields))

    async def _ask(self, data: bytes, fields: Sequence[str]) -> list[Any]:
        try:
            process = await self._running()
        except OSError as error:
            raise NotReady("the process that renders templates did not start: try again") from error
        try:
            async with asyncio.timeout(_WALL_SECONDS):
                answer = await exchange(process, data)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, ValueError) as error:
            problem = await self._obituary(process, error)
            self._begin()
            if problem is None:
                raise NotReady("the process that renders templates is being replaced: try again") from None
            raise BadInput(Violation(field=fields[0], problem=problem)) from None
        if answer.get("last"):
            self._kill()
            self._begin()
        if "problem" in answer:
            raise BadInput(Violation(field=fields[int(answer["job"])], problem=str(answer["problem"])))
        made: list[Any] = answer["made"]
        return made

    async def _running(self) -> asyncio.subprocess.Process:
        if self._closed:
            raise NotReady("the server is shutting down: send the request to another replica")
        if self._starting is None and (self._process is None or self._process.returncode is not None):
            self._begin()
        if self._starting is not None:
            starting, self._starting = self._starting, None
            await starting
        assert self._process is not None
        return self._process

    def _begin(self) -> None:
        """Start a new process now, so that the next request need not."""
        if not self._closed:
            self._starting = watched(self._spawn(), "starting the process that renders templates")

    async def _spawn(self) -> None:
        await self._end()
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-s", "-B", "-W", "ignore", "-m", self._module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            # A key pressed for the server is not for it.
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                await receive(process)
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            self._kill()
            raise OSError(f"the process that renders templates {how_it_ended(await process.wait())}") from error

    async def _obituary(self, process: asyncio.subprocess.Process, error: Exception) -> str | None:
        """What the template did to the process; None where its end, or its silence, is no template's fault."""
        try:
            async with asyncio.timeout(0 if isinstance(error, TimeoutError) else _WALL_SECONDS):
                await process.wait()  # its end is seen a moment before its code
        except TimeoutError:
            self._kill()
        code = await process.wait()
        if code == -signal.SIGPROF:
            return _TIME
        if code == MEMORY_CODE:
            return _MEMORY
        how = how_it_ended(code)
        _log.error("the process that renders templates %s", how)
        if code == -signal.SIGKILL:
            return None
        return f"ended the process that renders templates ({how}): it is nested too deeply, or takes too much"

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # Not the object's own `kill`: it may take the exit code from those who wait for it.
                os.kill(self._process.pid, signal.SIGKILL)

    async def _end(self) -> None:
        self._kill()
        process, self._process = self._process, None
        if process is not None:
            await process.wait()


def _check_lengths(templates: Sequence[tuple[str, str]]) -> None:
    long = [
        Violation(field=field, problem=_length_problem(one))
        for field, one in templates
        if len(one) > MAX_TEMPLATE_CHARACTERS
    ]
    if long:
        raise BadInput(*long[:32])


def _length_problem(template: str) -> str:
    return f"has {len(template)} characters; the limit is {MAX_TEMPLATE_CHARACTERS}"
