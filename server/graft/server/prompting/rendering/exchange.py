"""Messages between the server and the process that renders Jinja: JSON behind its length, each value written once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graft.server.errors import BadInput, Violation
from graft.server.prompting.rendering.bounds import LENGTH_BYTES
from graft.server.prompting.rendering.templates import MAX_RENDERED_CHARACTERS, Job

MAX_VALUES_CHARACTERS = 16 << 20
"""Of all variables' values of one message, as JSON."""
_MAX_ANSWER_BYTES = 5 * MAX_RENDERED_CHARACTERS
# A message with less is written sooner than a thread begins.
_INLINE_WEIGHT = 16_384


class Writing:
    """Writes the messages of one call. Jobs that have the same mapping of values share what is written of it."""

    def __init__(self, style: str) -> None:
        self._style = style
        self._written: dict[int, str] = {}

    def read(self, template: str) -> bytes:
        """Asks what a template reads."""
        return self._message("read", [(0, 0)], [template], [], room=0)

    async def render(self, jobs: Sequence[Job], *, room: int) -> bytes:
        """Asks for the jobs' texts, of `room` characters together. Raises `BadInput` for values that are too large."""
        if weighs_less(({job.template for job in jobs}, [job.values for job in jobs]), _INLINE_WEIGHT):
            return self._render(jobs, room)
        return await asyncio.to_thread(self._render, jobs, room)

    def _render(self, jobs: Sequence[Job], room: int) -> bytes:
        templates: dict[str, int] = {}
        values: dict[int, int] = {}
        num_characters = 0
        for job in jobs:
            templates.setdefault(job.template, len(templates))
            if (key := id(job.values)) in values:
                continue
            values[key] = len(values)
            if key not in self._written:
                self._written[key] = json.dumps(dict(job.values), ensure_ascii=False)
            num_characters += len(self._written[key])
            if num_characters > MAX_VALUES_CHARACTERS:
                problem = f"has more than {MAX_VALUES_CHARACTERS} characters as JSON, the limit: shorten it"
                raise BadInput(Violation(field=job.values_field, problem=problem))
        indices = [(templates[job.template], values[id(job.values)]) for job in jobs]
        return self._message("render", indices, list(templates), [self._written[key] for key in values], room=room)

    def _message(
        self, verb: str, jobs: Sequence[tuple[int, int]], templates: Sequence[str], values: Sequence[str], *, room: int
    ) -> bytes:
        head = {"verb": verb, "style": self._style, "room": room, "jobs": jobs, "templates": templates}
        # The values are JSON already: messages of one call share it.
        text = f'{json.dumps(head, ensure_ascii=False)[:-1]}, "values": [{",".join(values)}]}}'
        return text.encode(errors="surrogatepass")


def weighs_less(value: Any, limit: int) -> bool:
    """Whether the value's characters and 16 for each of its entries are fewer; takes time that the limit bounds."""
    rest: list[Iterable[Any]] = [iter((value,))]
    while rest:
        one = next(iter(rest[-1]), rest)
        if one is rest:
            rest.pop()
            continue
        limit -= 16 + (len(one) if isinstance(one, str) else 0)
        if limit <= 0:
            return False
        if isinstance(one, Mapping):
            rest += [iter(one.keys()), iter(one.values())]
        elif isinstance(one, list | tuple | set):
            rest.append(iter(one))
    return True


async def exchange(process: asyncio.subprocess.Process, data: bytes) -> dict[str, Any]:
    """The answer to a message. Raises what reading and writing a pipe does, and `ValueError` where it is none."""
    assert process.stdin is not None
    process.stdin.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
    await process.stdin.drain()
    return await receive(process)


async def receive(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The process's next answer."""
    assert process.stdout is not None
    length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
    if length > _MAX_ANSWER_BYTES:
        raise ValueError(f"an answer of {length} bytes")
    answer = json.loads((await process.stdout.readexactly(length)).decode(errors="surrogatepass"))
    if not isinstance(answer, dict):
        raise ValueError("no answer")
    return answer
