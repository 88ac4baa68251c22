"""What is said of a program when it is saved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from graft.server.errors import BadInput
from graft.server.prompting.program.program import PromptProgram
from graft.server.prompting.rendering.languages import Templates
from graft.server.prompting.rendering.lint import lint
from graft.server.prompting.rendering.process import TemplateProcess
from tests.server.prompting.rendering.programs import REVIEWS, SENTIMENT, program

CHAT: list[Any] = [{"role": "user", "content": "{{review}}"}]


@pytest.fixture(scope="module")
async def templates() -> AsyncIterator[Templates]:
    process = TemplateProcess()
    await process.start()
    yield Templates(process)
    await process.close()


async def problems(one: PromptProgram, templates: Templates) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as caught:
        await lint(one, templates)
    return [(violation.field, violation.problem) for violation in caught.value.violations]


@pytest.mark.parametrize(
    ("one", "field", "words"),
    [
        (program("{{a"), "program.prompt", "not closed"),
        (program("{{{a}}}"), "program.prompt", "no value is escaped"),
        (program("x", demonstrating={"answer": "{{#a}}"}), "program.demonstrating.answer", "section"),
        (
            program("{{review}}", demonstrations=REVIEWS),
            "program.prompt",
            "write `{{demonstrations}}` where",
        ),
        (program("{{demonstrations}}{{demonstrations}}"), "program.prompt", "twice"),
        (program([{"role": "user", "content": "{{demonstrations}}"}]), "program.prompt[0].content", "placeholder"),
        (program([{"role": "system", "content": "x"}], demonstrations=REVIEWS), "program.prompt", "no user turn"),
        (program([*CHAT, *2 * [{"type": "placeholder", "name": "demonstrations"}]]), "program.prompt", "two places"),
        (program("{{q}}", sourcing={}), "program.prompt", "write `{{sources}}`"),
        (
            program("{{demonstrations}}{{q}}", demonstrations=REVIEWS[:1]),
            "program.demonstrations[0].inputs.review",
            "it reads q",
        ),
        (
            program(SENTIMENT, demonstrations=[*REVIEWS, {"inputs": {}, "output": "x"}]),
            "program.demonstrations[3].inputs.review",
            "is missing",
        ),
        (
            program(SENTIMENT, demonstrations=REVIEWS, demonstrating={"answer": "{{rationale}} {{output}}"}),
            "program.demonstrations[0].rationale",
            "is missing",
        ),
        (program("{{a}}", tests=[{"variables": {"a": "x", "b": "y"}}]), "program.tests[0].variables.b", "it reads a"),
        (program("{{a}}", tests=[{"variables": {}}]), "program.tests[0].variables.a", "is missing"),
        (program("{% broken", template_format="jinja2"), "program.prompt", "unknown tag"),
        (program("{{ x.__class__ }}{{ demonstrations | upper }}", template_format="jinja2"), "program.prompt", "once"),
        (
            program("{% if 1 %}{{ demonstrations }}{% endif %}", template_format="jinja2", demonstrations=REVIEWS),
            "program.prompt",
            "line 1",
        ),
        (
            program(
                "{{ demonstrations }}{{ q }}", template_format="jinja2", demonstrations=[{"inputs": {}, "output": "x"}]
            ),
            "program.demonstrations[0]",
            "'q' is undefined",
        ),
        (
            program("{{ demonstrations }}{{ 'x' * q }}", template_format="jinja2", demonstrations=REVIEWS[:1]),
            "program.demonstrations[0].inputs.review",
            "it reads q",
        ),
    ],
)
async def test_what_cannot_run_is_refused_with_its_field(
    templates: Templates, one: PromptProgram, field: str, words: str
) -> None:
    told = await problems(one, templates)
    assert [problem for place, problem in told if place == field and words in problem], told


async def test_all_is_told_at_once(templates: Templates) -> None:
    many = [{"inputs": {"nosuch": "x"}, "output": "y"}] * 40
    told = await problems(program(SENTIMENT, demonstrations=many), templates)
    assert len(told) == 32 and told[-1][1] == "and more of the kind"


PMI: dict[str, Any] = {"output": {"type": "choices", "choices": ["yes", "no"]}, "scoring": {"calibration": "pmi"}}


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (program("Hi {name}, {{name}}"), "`{name}` is text"),
        (program("{% if x %}"), "say template_format jinja2"),
        (program("{{demonstrations}}{{a}}"), "is empty"),
        (program("{{a}} "), "white space"),
        (program(SENTIMENT, demonstrations=REVIEWS, demonstrating={"answer": "so"}), "{{output}}"),
        (program(SENTIMENT, demonstrations=[{**REVIEWS[0], "rationale": "r"}]), "rationales are not shown"),
        (program("{{a}}{{demonstrations}}{{review}}", demonstrations=REVIEWS), "put it behind them"),
        (program("{{sources}}"), "a variable as any other"),
        (program("Text: {{a}}\n{{a}} is", **PMI), "the prompt's last line"),
        (program("{{a}}\n{% if a %}Is it?{% endif %}", template_format="jinja2", **PMI), "the prompt's last line"),
        (
            program(
                "{{rule}}\n{{demonstrations}}{{review}} is",
                demonstrations=REVIEWS,
                choosing={"order": "entropy"},
                demonstrating={"prompt": "{{review}} is"},
            ),
            "no demonstration gives `{{rule}}`",
        ),
    ],
)
async def test_what_may_be_meant_otherwise_is_a_notice(templates: Templates, one: PromptProgram, words: str) -> None:
    assert [notice for notice in await lint(one, templates) if words in notice]


@pytest.mark.parametrize(
    "one",
    [
        program(SENTIMENT, demonstrations=REVIEWS, tests=[{"variables": {"review": "x"}, "equals": "yes"}]),
        program(CHAT, demonstrations=REVIEWS),
        program("{{ demonstrations }}\n{{ review | upper }}", template_format="jinja2", demonstrations=REVIEWS),
        program("Say hello."),
        program("Text: {{a}}\nIs it?", **PMI),
        program(SENTIMENT, demonstrations=REVIEWS, choosing={"order": "entropy"}),
    ],
)
async def test_a_sound_program_is_left_alone(templates: Templates, one: PromptProgram) -> None:
    assert await lint(one, templates) == ()
