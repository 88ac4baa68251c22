"""Where answers end that no `stop` ends, over a model that goes on with questions of its own, as models do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graft.server.prompting.program.reading import read_program
from graft.server.prompting.reasoning.task import Reasoned
from graft.server.prompting.rendering.fitting import Fitted
from graft.server.prompting.rendering.languages import Templates
from graft.server.prompting.rendering.layout import default_stop
from graft.server.prompting.rendering.lint import lint
from graft.server.prompting.rendering.writing import draft
from graft.server.prompting.running.request import RunRequest
from graft.server.prompting.running.running import task_of
from tests.server.prompting.reasoning.running import result
from tests.server.prompting.running.programs import NOTHING, prepared_of
from tests.server.prompting.scripted import ScriptedAsker

TEMPLATES = Templates(NOTHING)
PLAIN = {"inputs": {"q": "2+3"}, "output": "5"}
REASONED = {**PLAIN, "rationale": "2 and 3 make 5."}
PROGRAM = {**PLAIN, "rationale": "a = 2\ntotal = a + 3"}


async def ran(demonstration: dict[str, Any], method: str, said: str, **more: Any) -> Reasoned:
    program = read_program(
        json.dumps(
            {
                "prompt": "{{demonstrations}}Q: {{q}}\nA:",
                "demonstrations": [demonstration],
                "reasoning": {"method": method},
                **more,
            }
        )
    )
    written = await draft(program, {"q": "1+1"}, (0,), TEMPLATES)
    prompt = written.written((0,))
    request = RunRequest(program=program, variables={"q": "1+1"})
    fitted = Fitted(written=prompt, num_tokens=0, shown=(0,), dropped=())
    prepared = prepared_of(request, fitted, draft=written, max_tokens=256)
    asker = ScriptedAsker(lambda prompt, path: " 2." if prompt.endswith("the answer is") else said)
    return await result(asker, task_of(prepared, prompt, None))


@pytest.mark.parametrize(
    ("demonstration", "method", "said", "answer", "rationale"),
    [
        (PLAIN, "direct", " 2\nQ: 9+9\nA: 18\n", "2", ""),
        (REASONED, "chain_of_thought", " 1 and 1 make 2.\n2\nQ: 9+9\nA: 9 and 9.\n18\n", "2", "1 and 1 make 2."),
        (PLAIN, "chain_of_thought", "\nTake 1.\nAdd 1.\nQ: 9+9\nA: 18\n", "2", "Take 1.\nAdd 1."),
        (PLAIN, "program_of_thought", "a = 1\nb = a + 1\nQ: 9+9\nA: 18\n", "2", "a = 1\nb = a + 1"),
        (PROGRAM, "program_of_thought", " a = 1\nb = a + 1\nQ: 9+9\nA: b = 9\n", "2", "a = 1\nb = a + 1"),
        ({**PLAIN, "output": "5\nfive"}, "direct", " 2\ntwo\nQ: 9+9\nA: 18\n", "2\ntwo", ""),
    ],
)
async def test_a_question_that_the_model_invents_is_no_part_of_the_answer(
    demonstration: dict[str, Any], method: str, said: str, answer: str, rationale: str
) -> None:
    found = await ran(demonstration, method, said)
    assert (found.answer, found.rationale, found.finished) == (answer, rationale, True)


async def test_easier_questions_are_listed_to_the_end() -> None:
    found = await ran(PLAIN, "least_to_most", "\n1. What is 1?\n2. What is 1+1?\nQ: 9+9\nA: 18\n")
    assert "Q: What is 1?" in found.rationale and "Q: What is 1+1?" in found.rationale
    assert "9+9" not in found.rationale


async def test_a_grammar_may_break_lines() -> None:
    output = {"type": "json_schema", "json_schema": {"type": "object"}}
    assert (await ran({**PLAIN, "output": "{}"}, "direct", '{\n"a": 1}', output=output)).answer == '{\n"a": 1}'


@pytest.mark.parametrize(
    ("program", "stop"),
    [
        ({}, "\nQ:"),
        ({"prompt": "{{demonstrations}}\n\nQ: {{q}}\nA:"}, "\n\nQ:"),
        ({"prompt": "{{demonstrations}}{{q}} is"}, None),
        ({"prompt": "{{demonstrations}}Q: {% if q %}{{q}}{% endif %}\nA:", "template_format": "jinja2"}, "\nQ:"),
        ({"demonstrating": {"prompt": "Question {{q}}:"}}, "\nQuestion"),
        ({"demonstrating": {"separator": "\n##\n"}}, "\n##\n"),
        ({"demonstrating": {"answer": "{{rationale}} So {{output}}."}}, "\n"),
        ({"demonstrating": {"answer": "{{rationale}}\nQ: so?\nA: {{output}}"}}, None),
        ({"demonstrating": {"before_answer": "\n", "answer": "{{rationale}} So {{output}}."}}, "\nQ:"),
        ({"reasoning": {"method": "least_to_most"}, "demonstrating": {"separator": "\n##\n"}}, "\n##\nQ:"),
    ],
)
def test_what_ends_an_answer_with_its_reasoning(program: dict[str, Any], stop: str | None) -> None:
    whole = {
        "prompt": "{{demonstrations}}Q: {{q}}\nA:",
        "demonstrations": [REASONED],
        "reasoning": {"method": "chain_of_thought"},
        **program,
    }
    assert default_stop(read_program(json.dumps(whole)), (0,)) == stop


async def test_the_author_is_told_where_nothing_ends_an_answer() -> None:
    whole = {"prompt": "{{demonstrations}}{{q}} is", "demonstrations": [{**PLAIN, "output": "a\nb"}]}
    notices = await lint(read_program(json.dumps(whole)), TEMPLATES)
    assert [notice.partition(":")[0] for notice in notices] == ["program.decoding.stop"]
    ended = read_program(json.dumps({**whole, "decoding": {"stop": ["\n\n"]}}))
    assert await lint(ended, TEMPLATES) == ()
