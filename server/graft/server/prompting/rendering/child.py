"""The process in which Jinja renders: it takes requests on its input and writes answers, each after its length.

What a request may take, the kernel keeps: at the end of its processor time the process is killed, and beyond its memory
nothing is given to it. It can open no file, start no process and reach nothing.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
from collections import OrderedDict
from itertools import product
from typing import Any

import jinja2
import jinja2.debug

from graft.server.prompting.rendering.bounds import (
    CHAT,
    CPU_SECONDS,
    LENGTH_BYTES,
    MEMORY_BYTES,
    MEMORY_CODE,
    PROGRAM,
)
from graft.server.prompting.rendering.sandbox import Sandbox, variables_of, words_of

_NUM_COMPILED = 64
_COMPILED_CHARACTERS = 65_536
_MAX_GROWN_BYTES = 64 << 20
_MAX_SAID = 300
_MAX_NAMES = 1000
_WARM = (
    "{% macro m(x) %}{{ x | trim | tojson }}{% endmacro %}{% for x in y if x %}{{ m(x) }}{{ 'a\\u00e4' }}{% endfor %}"
    "{{ strftime_now('%Y') }}{{ 'a b' | title | wordcount }}{{ [2, 1] | sort | unique | list }}{{ y.z.z }}"
)


class _Refused(Exception):
    """One job of a request that cannot be done, and why."""


class _Renderer:
    """Answers requests. Templates stay compiled; what they made is kept nowhere."""

    def __init__(self) -> None:
        self._sandboxes = {style: Sandbox(style) for style in (PROGRAM, CHAT)}
        self._compiled: OrderedDict[tuple[str, str], jinja2.Template] = OrderedDict()

    def warm(self) -> None:
        """Import now what Python's parts import when they are first used: nothing can be opened later."""
        for style, template in product((PROGRAM, CHAT), (_WARM, "{% broken")):
            request = {
                "style": style,
                "room": 1000,
                "jobs": [[0, 0]],
                "templates": [template],
                "values": [{"y": ["x"]}],
            }
            for verb in ("render", "read"):
                self.answer({"verb": verb, **request})
        self._compiled.clear()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """`jobs` are indices into `templates` and `values`; no template can change the values that it shares."""
        style, room = request["style"], request["room"]
        made: list[Any] = []
        for index, (which, whose) in enumerate(request["jobs"]):
            template = request["templates"][which]
            try:
                if request["verb"] == "read":
                    made.append(self._read(style, template))
                else:
                    made.append(text := self._render(style, template, request["values"][whose], room))
                    room -= len(text)
            except MemoryError:
                raise
            except _Refused as refused:
                return {"job": index, "problem": str(refused)}
            except Exception as error:
                return {"job": index, "problem": said(error)}
        return {"made": made}

    def _read(self, style: str, template: str) -> dict[str, Any]:
        sandbox = self._sandboxes[style]
        try:
            tree = sandbox.parse(template)
            sandbox.compile(tree)
        except MemoryError:
            raise
        except Exception as error:
            return {"fault": said(error)}
        tree = sandbox.parse(template)  # compiling has changed it
        return {
            "variables": variables_of(tree, sandbox.globals)[:_MAX_NAMES],
            "words": words_of(tree)[:_MAX_NAMES],
        }

    def _render(self, style: str, template: str, values: dict[str, Any], room: int) -> str:
        pieces: list[str] = []
        for piece in self._template(style, template).generate(values):
            room -= len(piece)
            if room < 0:
                raise _Refused("makes more characters than the limit: shorten the template or its values")
            pieces.append(piece)
        return "".join(pieces)

    def _template(self, style: str, template: str) -> jinja2.Template:
        key = (style, template)
        found = self._compiled.pop(key, None) or self._sandboxes[style].from_string(template)
        if len(template) <= _COMPILED_CHARACTERS:
            self._compiled[key] = found
            if len(self._compiled) > _NUM_COMPILED:
                self._compiled.popitem(last=False)
        return found


def said(error: Exception) -> str:
    """What a template failed with, in one short line."""
    text = " ".join(str(error).split())[:_MAX_SAID]
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"line {error.lineno}: {text}"
    if isinstance(error, jinja2.TemplateError | OverflowError):
        return text or type(error).__name__
    if isinstance(error, RecursionError):
        return "calls itself, or is nested, too deeply"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _confine(*, num_files: int) -> None:
    """Nothing can be opened, started or written from now on, and memory ends at its limit."""
    os.chdir("/")
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, num_files),
    ):
        resource.setrlimit(kind, (most, most))
    # Where a limit of processor time ends, the kernel kills; no handler of Python's is in between.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def _size_bytes(statm: int) -> int:
    return int(os.pread(statm, 100, 0).split()[0]) * resource.getpagesize()


def _read_exactly(num_bytes: int) -> bytes:
    data = sys.stdin.buffer.read(num_bytes)
    if len(data) < num_bytes:
        os._exit(0)  # the server has ended
    return data


def _write(answer: dict[str, Any]) -> None:
    data = json.dumps(answer, ensure_ascii=False).encode(errors="surrogatepass")
    sys.stdout.buffer.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
    sys.stdout.buffer.flush()


def main() -> None:
    """Answer until the input ends."""
    renderer = _Renderer()
    renderer.warm()
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    gc.freeze()
    _confine(num_files=statm + 1)
    began_bytes = _size_bytes(statm)
    _write({"made": []})
    while True:
        length = int.from_bytes(_read_exactly(LENGTH_BYTES), "big")
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        try:
            answer = renderer.answer(json.loads(_read_exactly(length)))
            answer["last"] = _size_bytes(statm) - began_bytes > _MAX_GROWN_BYTES
            _write(answer)
        except MemoryError:
            os._exit(MEMORY_CODE)
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
