"""Jinja in its process: what templates may do there, what they may not, and that nobody else notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jinja2
import psutil
import pytest

from graft.server.errors import BadInput, NotReady
from graft.server.prompting.rendering import sandbox
from graft.server.prompting.rendering.bounds import CHAT, LENGTH_BYTES, PROGRAM
from graft.server.prompting.rendering.process import TemplateProcess
from graft.server.prompting.rendering.templates import Job
from tests.training.chat_templates import TEMPLATES

LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
DOUBLES = "{% set n = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}"
ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ x['__class__'] }}",
    "{{ x.__init__.__globals__ }}",
    "{{ ''|attr('__class__') }}",
    "{{ ['a']|map('attr', '__class__')|list }}",
    "{{ ['a']|map(attribute='__class__')|first|string|upper }}",
    "{% filter attr('a') %}{% endfilter %}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ '{a.__class__}'.format_map(x) }}",
    "{{ '%s' % x }}",
    "{{ '%s'|format(x) }}",
    "{{ (x|escape).format(1) }}",
    "{{ (x|e).__html__ }}",
    "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__ }}",
    "{{ namespace.__init__ }}",
    "{{ range.__self__ }}",
    "{{ range(3).__class__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ dict.__mro__ }}",
    "{% for i in [1] %}{{ loop._iterator }}{% endfor %}",
    "{% for i in [1] %}{{ loop.__class__ }}{% endfor %}",
    "{% set ns = namespace() %}{{ ns.__class__ }}",
    "{% set ns = namespace() %}{{ ns._Namespace__attrs }}",
    "{% macro a() %}{% endmacro %}{{ a._func.__globals__ }}",
    "{% macro a() %}{% endmacro %}{{ a._environment }}",
    "{{ (1).bit_length() }}",
    "{{ 1.5.hex() }}",
    "{{ 'a'.encode() }}",
    "{{ 'a'.translate({97: 'b'}) }}",
    "{{ [].append(1) }}",
    "{{ {}.update(a=1) }}",
    "{{ x.clear() }}",
    "{{ x is callable }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'a' %}",
    "{% debug %}",
    "{{ x|pprint }}",
    "{{ [1]|random }}",
    "{{ nosuch }}",
    "{{ nosuch.a }}",
    "{{ config }}{{ request }}",
]
EXPLOSIONS = [
    LOOPS,
    DOUBLES,
    "{{ 'x' * 10**9 }}",
    "{{ [1] * 10**9 }}",
    "{{ 1000000000 * 'x' }}",
    "{{ 10 ** (10 ** 8) }}",
    "{{ 2**99999999 }}",
    "{% set n = namespace(i=3) %}{% for i in range(99) %}{% set n.i = n.i * n.i %}{% endfor %}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 'a'|center(10**9) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a\nb'|indent(10**9) }}",
    "{{ x|tojson(indent=10**9) }}",
    "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "{% for i in range(9999) %}{{ 'x' * 100000 }}{% endfor %}",
    "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "{{ " + "[" * 90_000 + "]" * 90_000 + " }}",
    "{{ " + "-" * 90_000 + "1 }}",
    "{{ " + "a." * 90_000 + "a }}",
    "{{ 1" + "+1" * 90_000 + " }}",
    "{% if 1 %}" * 30_000,
    "{% for a in [1] %}" * 40 + "{% endfor %}" * 40,
    "{{ 1 / 0 }}",
    "{% broken",
    "{{ 'a",
]


@pytest.fixture(scope="module")
async def process() -> AsyncIterator[TemplateProcess]:
    process = TemplateProcess()
    await process.start()
    yield process
    await process.close()


async def rendered(process: TemplateProcess, template: str, *, style: str = PROGRAM, **values: Any) -> str:
    (text,) = await process.render([Job(field="prompt", template=template, values=values)], style=style)
    return text


@pytest.mark.parametrize("template", [*ESCAPES, *EXPLOSIONS])
async def test_what_escapes_or_explodes_is_refused_and_the_next_request_served(
    process: TemplateProcess, template: str
) -> None:
    refused = asyncio.ensure_future(rendered(process, template, x={"a": 1}))
    waiting = [asyncio.ensure_future(rendered(process, "{{ i }}", i=index)) for index in range(3)]
    with pytest.raises(BadInput) as caught:
        await refused
    (violation,) = caught.value.violations
    assert violation.field == "prompt" and 0 < len(violation.problem) < 500
    assert await asyncio.gather(*waiting) == ["0", "1", "2"]


@pytest.mark.parametrize("template", ESCAPES[:-4])
async def test_nothing_leaks_from_a_chat_template_either(process: TemplateProcess, template: str) -> None:
    """There a name without a value prints nothing, as transformers has it."""
    try:
        text = await rendered(process, template, style=CHAT, x={"a": 1})
    except BadInput:
        return
    assert text == ""


@pytest.mark.parametrize("template", [LOOPS, DOUBLES])
async def test_a_template_that_takes_too_much_gets_a_new_process_for_those_behind_it(template: str) -> None:
    process = TemplateProcess()
    await process.start()
    before = process.pid
    with pytest.raises(BadInput, match="the limit"):
        await rendered(process, template)
    assert await rendered(process, "{{ 1 }}") == "1"
    assert process.pid != before
    await process.close()
    assert process.pid is None


async def test_what_templates_need_is_there(process: TemplateProcess) -> None:
    text = await rendered(
        process,
        "{% macro row(d) %}<{{ d.text | trim | upper }}>{% endmacro %}"
        "{% for d in rows if d.keep %}{{ loop.index }}{{ row(d) }}{% if not loop.last %}, {% endif %}{% endfor %}"
        "{% set n = namespace(i=0) %}{% for k, v in table.items() %}{% set n.i = n.i + v %}{% endfor %} {{ n.i }}"
        " {{ table | tojson }} {{ 'a-b'.split('-')[1] }} {{ missing | default('none') }} {{ 2 ** 5 }} {{ 7 % 4 }}\n",
        rows=[{"text": " a ", "keep": True}, {"text": "b", "keep": False}, {"text": "c", "keep": True}],
        table={"x": 1, "y": 2},
    )
    assert text == '1<A>, 2<C> 3 {"x": 1, "y": 2} b none 32 3\n'


async def test_values_are_never_read_as_templates(process: TemplateProcess) -> None:
    assert await rendered(process, "{{ a }}", a="{{ b }}{% x %}") == "{{ b }}{% x %}"


@pytest.mark.parametrize("name", sorted(sandbox._FILTERS | {"tojson", "safe"}))
async def test_every_listed_filter_works_where_nothing_can_be_opened(process: TemplateProcess, name: str) -> None:
    arguments = {
        "batch": "(1)", "slice": "(1)", "map": "('upper')", "rejectattr": "('a')", "selectattr": "('a')",
        "replace": "('a', 'b')", "default": "(1)", "d": "(1)",
    }  # fmt: skip
    value = {"abs": "1", "float": "1", "int": "1", "round": "1", "dictsort": "t", "items": "t", "sum": "[1]"}.get(
        name, "['a', 'b']" if name in ("map", "rejectattr", "selectattr", "join") else "'ab c'"
    )
    assert await rendered(process, f"{{{{ {value} | {name}{arguments.get(name, '')} }}}}", t={"a": 1})


def test_nothing_is_called_that_is_not_listed() -> None:
    """Values come as JSON, which holds nothing that can be called; and if it did …"""
    called: list[str] = []
    for template in ("{{ f('x') }}", "{{ ['x'] | map('f') | list }}", "{% call f('x') %}{% endcall %}"):
        with pytest.raises(jinja2.TemplateError):
            sandbox.Sandbox(PROGRAM).from_string(template).render(f=called.append)
    assert not called


def test_a_process_whose_server_does_not_look_is_ended_by_the_kernel() -> None:
    """At the end of the processor time, also where Python itself is not asked any more."""
    command = [sys.executable, "-m", "graft.server.prompting.rendering.child"]
    for template in (LOOPS, "{% for i in range(99999) %}{% set n = ('a b ' * 200000) | wordcount %}{% endfor %}"):
        given = {"jobs": [[0, 0]], "templates": [template], "values": [{}]}
        request = {"verb": "render", "style": PROGRAM, "room": 1 << 30, **given}
        data = json.dumps(request).encode()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            out, _ = child.communicate(len(data).to_bytes(LENGTH_BYTES, "big") + data, timeout=120)
        assert child.returncode == -signal.SIGPROF and len(out) < 100


async def test_thousands_are_rendered_in_parts(process: TemplateProcess) -> None:
    jobs = [Job(field=f"prompt[{index}]", template="{{ a }}", values={"a": index}) for index in range(1000)]
    assert await process.render(jobs) == [str(index) for index in range(1000)]
    jobs[700] = Job(field="prompt[700]", template="{{ b }}", values={})
    with pytest.raises(BadInput) as caught:
        await process.render(jobs)
    assert [one.field for one in caught.value.violations] == ["prompt[700]"]
    long = [Job(field="prompt", template="{{ a }}", values={"a": "x" * 10_000})] * 600
    with pytest.raises(BadInput, match="more characters than the limit"):
        await process.render(long)


async def test_it_reads_what_a_template_reads(process: TemplateProcess) -> None:
    good, broken, heavy = await process.read(
        ["{% for a in b %}{{ a.c }}{{ d }}{% endfor %}{{ range(3) }}", "a\n{% broken", "{% if 1 %}" * 30_000]
    )
    assert good.variables == ("b", "d") and not good.faults
    assert broken.faults == ("line 2: Encountered unknown tag 'broken'.",)
    assert "nested" in heavy.faults[0]


@pytest.mark.parametrize("name", sorted(TEMPLATES))
async def test_chat_templates_in_use_render_as_transformers_renders_them(process: TemplateProcess, name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    chats: list[list[dict[str, Any]]] = [
        [{"role": "user", "content": " Hi\n"}],
        [{"role": "system", "content": "S"}, {"role": "user", "content": "<b>&"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
    ]
    num_rendered = 0
    for chat in chats:
        values = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "tools": None}
        try:
            (expected,), _ = render_jinja_template([chat], chat_template=TEMPLATES[name], **values)
        except Exception:
            continue
        num_rendered += 1
        given = {**values, "messages": chat, "documents": None}
        assert await rendered(process, TEMPLATES[name], style=CHAT, **given) == expected
    assert num_rendered


async def test_whoever_leaves_does_not_leave_its_answer_to_the_next(process: TemplateProcess) -> None:
    for index in range(20):
        left = asyncio.ensure_future(rendered(process, "{{ 'left' }}"))
        await asyncio.sleep(0.0005 * (index % 4))
        left.cancel()
        assert await rendered(process, "{{ i }}", i=index) == str(index)


async def test_it_holds_little_and_inherits_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        os.set_inheritable(listening.fileno(), True)
        process = TemplateProcess()
        await process.start()
        assert process.pid is not None
        name = Path(f"/proc/self/fd/{listening.fileno()}").readlink()
        assert name not in [one.readlink() for one in Path(f"/proc/{process.pid}/fd").iterdir()]
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert [line for line in limits.splitlines() if line.startswith("Max address space") and "268435456" in line]
    environment = psutil.Process(process.pid).environ()
    assert set(environment) <= {"PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TZ", "TZDIR"}
    await process.close()


async def test_a_killed_process_is_replaced() -> None:
    process = TemplateProcess()
    await process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    try:
        assert await rendered(process, "{{ 1 }}") == "1"
    except NotReady:  # its end was not known yet
        assert await rendered(process, "{{ 1 }}") == "1"
    await process.close()
    with pytest.raises(NotReady):
        await rendered(process, "{{ 1 }}")


async def test_a_process_that_does_not_answer_is_replaced(process: TemplateProcess) -> None:
    await process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(NotReady):
        await rendered(process, "{{ 1 }}")
    assert await rendered(process, "{{ 2 }}") == "2"


async def test_a_process_that_does_not_start_is_said_to_whoever_waits_for_it() -> None:
    process = TemplateProcess(module="keyword")  # ends at once
    with pytest.raises(NotReady, match="did not start"):
        await rendered(process, "{{ 1 }}")
    await process.close()


async def test_readings_that_others_displace_are_still_there(process: TemplateProcess) -> None:
    await process.read(["{{ a }}"])
    many = [f"{{{{ x{index} }}}}" for index in range(300)]
    displacing = asyncio.create_task(process.read(many))
    both = await process.read(["{{ a }}", *(f"{{{{ y{index} }}}}" for index in range(301))])
    assert both[0].variables == ("a",)
    await displacing


async def test_it_ends_with_the_server() -> None:
    """The server may be killed and tell nobody: the process's input ends with it."""
    code = (
        "import asyncio, os\nfrom graft.server.prompting.rendering.process import TemplateProcess\n"
        "async def main():\n    one = TemplateProcess()\n    await one.start()\n    print(one.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\nasyncio.run(main())"
    )
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await server.communicate()
    pid = int(out)
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it lives on")
