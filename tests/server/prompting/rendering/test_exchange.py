"""What is sent to the process that renders: bounded, and each value once, however many templates read it."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.assembly import Assembly
from graft.server.errors import BadInput, Overloaded
from graft.server.prompting.rendering.bounds import PROGRAM
from graft.server.prompting.rendering.exchange import MAX_VALUES_CHARACTERS, Writing, weighs_less
from graft.server.prompting.rendering.process import TemplateProcess
from graft.server.prompting.rendering.templates import MAX_RENDERED_CHARACTERS, Job
from graft.server.runtime.tenant import on_behalf_of
from graft.server.settings.settings import Settings

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


async def test_a_large_value_that_every_turn_reads_is_sent_once() -> None:
    values = {"a": "x" * (1 << 20)}
    jobs = [Job(field="prompt", template="{{ a | length }}", values=values)] * 256
    data = await Writing(PROGRAM).render(jobs, room=MAX_RENDERED_CHARACTERS)
    assert len(data) < 1.01 * (1 << 20)
    process = TemplateProcess()
    await process.start()
    assert await process.render(jobs * 3) == ["1048576"] * 768
    await process.close()


async def test_values_are_bounded_with_the_field_that_has_them() -> None:
    small = Job(field="prompt[0]", template="{{ a }}", values={"a": 1})
    large = Job(field="prompt[1]", template="{{ a }}", values={"a": "x" * MAX_VALUES_CHARACTERS}, values_field="given")
    with pytest.raises(BadInput, match="16777216") as caught:
        await Writing(PROGRAM).render([small, large], room=1)
    assert [one.field for one in caught.value.violations] == ["given"]


@given(values=st.lists(st.dictionaries(st.text(), VALUES), max_size=4), order=st.lists(st.integers(0, 3)))
def test_each_job_finds_its_template_and_its_values(values: list[dict[str, Any]], order: list[int]) -> None:
    jobs = [Job(field="f", template=f"{{{{ {i % 2} }}}}", values=values[i]) for i in order if i < len(values)]
    sent = json.loads(asyncio.run(Writing(PROGRAM).render(jobs, room=7)).decode(errors="surrogatepass"))
    found = [(sent["templates"][which], sent["values"][whose]) for which, whose in sent["jobs"]]
    assert found == [(job.template, job.values) for job in jobs] and sent["room"] == 7


@given(VALUES, st.integers(1, 500))
def test_what_weighs_less_is_short(value: Any, limit: int) -> None:
    """So it may be written on the event loop; JSON writes a character in six at most, a number in few."""
    if weighs_less(value, limit):
        assert len(json.dumps(value, ensure_ascii=False)) < 6 * limit + 100
    assert weighs_less(value, 20 * len(json.dumps(value, ensure_ascii=False)) + 20)


async def test_as_many_of_a_tenant_wait_for_the_process_as_for_the_engine() -> None:
    """The process is no narrower than admission, which has 320 places by default."""

    async def rendered(process: TemplateProcess, index: int) -> str:
        (text,) = await process.render([Job(field="prompt", template="{{ i }}", values={"i": index})])
        return text

    async with AsyncExitStack() as resources:
        for settings in (Settings(), Settings(max_running=1, max_queued=2)):
            # Neither engines nor metrics take part in it.
            assembly = Assembly(settings, None, None, resources)  # type: ignore[arg-type]
            process = await assembly._start_templates()
            places = settings.max_running + settings.max_queued
            with on_behalf_of("one"):
                asked = [rendered(process, index) for index in range(places + 2)]
                ended = await asyncio.gather(*asked, return_exceptions=True)
            assert ended[:-1] == [str(index) for index in range(places + 1)]
            assert isinstance(ended[-1], Overloaded)
