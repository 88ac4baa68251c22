"""promptfoo configurations: one as people write it, and everything that is refused, by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graft.server.prompting.program.program import PromptProgram, TemplateFormat
from graft.server.prompting.program.reading import read_program
from graft.server.prompting.rendering import bounds, mustache
from graft.server.prompting.rendering.sandbox import Sandbox
from graft.server.prompting.rendering.templates import Job
from graft.training.errors import DataError
from graft.training.evaluation.asking.model import Turn
from graft.training.evaluation.checks.check import CheckKind
from graft.training.evaluation.importing import programs, promptfoo, reading
from graft.training.evaluation.running.run import Plan, evaluate
from graft.training.evaluation.tasks import reading as own
from graft.training.evaluation.tasks import template
from tests.training.evaluation.scripted import ScriptedModel

FILE = Path(__file__).parent / "files" / "promptfooconfig.yaml"


def test_prompts_times_tests_times_lists() -> None:
    task = promptfoo.read(FILE)
    assert len(task.questions) == 5 * (1 + 2 + 1)
    assert (task.max_tokens, task.temperature) == (24, 0.2)
    prompts = [question.prompt for question in task.questions[:5]]
    assert prompts[0] == "What is the capital of France? Answer with one word."
    assert prompts[1] == "You are a geographer.\nCountry: France\nCapital:\n"
    assert prompts[2] == (
        Turn(role="system", content="You answer in English."),
        Turn(role="user", content="What is the capital of France?"),
    )
    assert prompts[3:] == ["Capital of France:", "Q: capital of France?\nA:"]
    assert [question.variables["country"] for question in task.questions[5:15]] == ["Spain"] * 5 + ["Portugal"] * 5
    assert task.questions[15].variables["question"] == "the capital of Norway"


def test_assertions() -> None:
    first, *_, last = promptfoo.read(FILE).questions
    kinds = [(check.kind, check.is_negated, check.reference, check.weight) for check in first.checks]
    assert kinds == [
        (CheckKind.ICONTAINS, True, ("as an AI",), 1),
        (CheckKind.CONTAINS, True, ("sorry",), 0),
        (CheckKind.EQUALS, False, ("Paris",), 1),
        (CheckKind.STARTS_WITH, False, ("P",), 2),
    ]
    rubric = last.checks[-1]
    assert (rubric.kind, rubric.reference, rubric.threshold) == (
        CheckKind.RUBRIC,
        ("names the capital of Norway",),
        0.7,
    )


def test_it_runs(tmp_path: Path) -> None:
    judge = ScriptedModel(say_=lambda prompt, path: '{"reason": "so", "score": 0.9, "pass": true}', name="judge")
    answers = {"France": "Paris", "Spain": "Madrid", "Portugal": "Lisbon", "Norway": '{"city": "Oslo"}'}
    model = ScriptedModel(say_=lambda prompt, path: next(said for name, said in answers.items() if name in prompt))
    own.write(reading.import_file(FILE), tmp_path / "capitals.task.json")
    (outcome,) = evaluate([model], [own.read(str(tmp_path / "capitals.task.json"))], Plan(), judge=judge)
    assert outcome.interval().mean == 1 and len(judge.asked) == 5
    wrong = ScriptedModel(say_=lambda prompt, path: "As an AI, I am sorry")
    (outcome,) = evaluate([wrong], [reading.read(str(FILE))], Plan(), judge=judge)
    assert outcome.marks("pass,none") == [0] * 20


def test_prompts_become_programs(tmp_path: Path) -> None:
    written = programs.write(FILE, tmp_path)
    assert [path.name for path in written] == [f"promptfooconfig-{n}.json" for n in range(1, 6)]
    assert json.loads(written[0].read_text()) == {
        "type": "text",
        "prompt": "What is the capital of {{country}}? Answer with one word.",
    }
    assert json.loads(written[2].read_text())["prompt"][0] == {
        "role": "system",
        "content": "You answer in {{language}}.",
    }


USER = {"name": " Bo ", "items": ["x"], "a'b": 1}
VALUES = {"user": USER, "who": " Al ", "n": 3, "key": "name", "it": {"of": "name"}}
TEMPLATES = [
    ("Say hello to {{ who }}, {{n}} times.", "mustache"),
    ("No field, {one} brace and a back\\slash", "mustache"),
    ("Say {{user.name}} hello to {{ who | trim }}", "jinja2"),
    ("{{user.items}}{{user['items']}}{{ user[\"a'b\"] }}{{ user.items[0] }}", "jinja2"),
    ("{{user[key]}} {{user[it.of]}} {{ user.name.strip() }} {{ [who, n] }}", "jinja2"),
    ("C:\\{{who}} is a path\n", "jinja2"),
    ("{{who}} and then {{ which is {% no {# field", "jinja2"),
]


@pytest.mark.parametrize(("source", "form"), TEMPLATES)
@pytest.mark.parametrize("is_chat", [False, True])
def test_a_program_s_template_reads_on_the_server_as_in_the_task(
    source: str, form: str, is_chat: bool, tmp_path: Path
) -> None:
    path = tmp_path / "my prompts.yaml"
    text = json.dumps([{"role": "system", "content": source}, {"role": "user", "content": "Hi {{who}}!"}])
    path.write_text(json.dumps({"prompts": [text if is_chat else source], "tests": [{"vars": VALUES}]}))
    (written,) = programs.write(path, tmp_path / "programs")
    program = read_program(written.read_text())
    assert program.template_format == form
    contents = [source, "Hi {{who}}!"] if is_chat else [source]
    held = [program.prompt] if isinstance(program.prompt, str) else [turn.content for turn in program.prompt]
    assert [_rendered(program, one) for one in held] == [template.parse(one).fill(VALUES) for one in contents]
    assert programs.push_command(written) == f"graft prompts push '{written}' --name my-prompts"


def _rendered(program: PromptProgram, held: str) -> str:
    if program.template_format is TemplateFormat.JINJA2:
        return Sandbox(bounds.PROGRAM).from_string(held).render(VALUES)
    (text,) = mustache.render_all([Job(field="", template=held, values=VALUES, values_field="")])
    return text


HEAD = "prompts: ['{{a}}']\nproviders: [openai:gpt-4o]\n"
TEST = HEAD + "tests:\n  - vars: {a: b}\n"
REFUSED = [
    (
        TEST + "    assert:\n      - type: javascript\n        value: output.length > 3\n",
        6,
        "`javascript` would run code",
    ),
    (TEST + "    assert:\n      - type: not-python\n        value: 'True'\n", 6, "`not-python` would run code"),
    (TEST + "    assert:\n      - type: similar\n        value: x\n", 6, "`similar` is not supported"),
    (
        TEST + "    assert:\n      - type: equals\n        value: file://grade.js\n",
        7,
        "`file://grade.js` would run code",
    ),
    (TEST + "    assert:\n      - type: contains\n        value: file://a.py:f\n", 7, "`file://a.py:f` would run code"),
    (TEST + "    assert:\n      - type: regex\n        value: '(?=x)'\n", 7, "no regular expression of RE2"),
    (
        TEST + "    assert:\n      - type: regex\n        value: a\n        transform: output.trim()\n",
        8,
        "`transform` is not",
    ),
    (TEST + "    assert:\n      - type: is-json\n        value: {type: nothing}\n", 7, "the schema is broken"),
    (TEST + "    assert:\n      - type: assert-set\n        assert: []\n", 6, "`assert-set` is not supported"),
    (TEST + "    options:\n      transform: output.trim()\n", 6, "`transform` is not supported"),
    (HEAD + "tests:\n  - vars:\n      a: file://make.py\n", 5, "`file://make.py` would run code"),
    (HEAD + "tests: file://tests.py\n", 3, "`file://tests.py` would run code"),
    (HEAD + "tests: file://tests.csv\n", 3, "must be written out in this file"),
    ("prompts: [file://prompt.js]\ntests: [{}]\n", 1, "`file://prompt.js` would run code"),
    ("prompts:\n  - x\n  - exec:./prompt.sh\ntests: [{}]\n", 3, "`exec:` would run code"),
    ("prompts: [x]\nproviders:\n  - exec:python provider.py\ntests: [{}]\n", 3, "`exec:` would run code"),
    ("prompts: [x]\nproviders:\n  - id: file://p.py\ntests: [{}]\n", 3, "`file://p.py` would run code"),
    ("prompts: [x]\nproviders:\n  - ./p.js\n  - openai:gpt-4o\ntests: [{}]\n", 3, "`./p.js` would run code"),
    ("prompts: [x]\nproviders: custom.py\ntests: [{}]\n", 2, "`custom.py` would run code"),
    ("prompts: [x]\nproviders:\n  - p.py:make: {config: {}}\ntests: [{}]\n", 3, "`p.py:make` would run code"),
    ("prompts:\n  - x\n  - prompt.py\ntests: [{}]\n", 3, "prompt `prompt.py` would run code"),
    ("prompts: ['gen.js:make']\ntests: [{}]\n", 1, "prompt `gen.js:make` would run code"),
    ("prompts: [{id: prompt.py, label: x}]\ntests: [{}]\n", 1, "prompt `prompt.py` would run code"),
    ("prompts: ['prompts/*.txt']\ntests: [{}]\n", 1, "prompt `prompts/*.txt`: a file must be one .txt"),
    ("prompts: ['prompts/*']\ntests: [{}]\n", 1, "prompt `prompts/*`: a file must be one .txt"),
    ("prompts: [prompts.csv]\ntests: [{}]\n", 1, "prompt `prompts.csv`: a file must be one .txt"),
    ("prompts: ['{{a}}.yaml']\ntests: [{}]\n", 1, "prompt `{{a}}.yaml`: a file must be one .txt"),
    ("prompts:\n  - missing.txt\ntests: [{}]\n", 2, "missing.txt"),
    ("prompts: ['langfuse://mine:3']\ntests: [{}]\n", 1, "`langfuse://mine:3` is kept elsewhere"),
    ("prompts: [x]\ntests: [{}]\nextensions: [file://hooks.js]\n", 3, "`extensions` is not supported"),
    ("prompts: [x]\ntests: [{}]\nnunjucksFilters: {f: f.js}\n", 3, "`nunjucksFilters` is not supported"),
    ("prompts: [x]\ntests: [{}]\nscenarios: []\n", 3, "`scenarios` is not supported"),
    ("prompts: ['{% if a %}x{% endif %}']\ntests: [{}]\n", 1, "`{% if a %}x{% endif %}` is not supported"),
    ("prompts: ['{{ a | upper }}']\ntests: [{}]\n", 1, "a | upper"),
    ("prompts: ['{{missing}}']\ntests:\n  - {}\n", 3, "there is no field `missing`"),
]


@pytest.mark.parametrize(("text", "line", "told"), REFUSED, ids=[told for _, _, told in REFUSED])
def test_what_is_not_supported_is_refused_by_name_with_its_line(
    text: str, line: int, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "promptfooconfig.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        promptfoo.read(path)
    assert f"{path}, line {line}: " in str(error.value) and told in str(error.value)


def test_a_text_that_only_resembles_a_name_is_a_prompt(tmp_path: Path) -> None:
    texts = [
        "**Be brief.** Is it *true*?",
        "Answer yes/no.",
        "See main.py\nand explain.",
        "What is Node.js for?",
        "a:b",
    ]
    path = tmp_path / "promptfooconfig.yaml"
    path.write_text(json.dumps({"prompts": texts, "providers": ["openai:gpt-4o"], "tests": [{}]}))
    assert [question.prompt for question in promptfoo.read(path).questions] == texts
    (tmp_path / "make").mkdir()
    (tmp_path / "make" / "prompt").write_text("#!/bin/sh\n")
    path.write_text(json.dumps({"prompts": ["make/prompt"], "tests": [{}]}))
    with pytest.raises(DataError, match="`make/prompt`: a file must be one"):
        promptfoo.read(path)


def test_all_reasons_at_once(tmp_path: Path) -> None:
    path = tmp_path / "promptfooconfig.yaml"
    path.write_text(TEST + "    assert:\n      - type: javascript\n      - type: python\nredteam: {}\n")
    with pytest.raises(DataError) as error:
        promptfoo.read(path)
    assert len(str(error.value).splitlines()) == 3
