"""Rewards of all kinds of graders, and what becomes of those that fail."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from graft.adapters.errors import NotFound
from graft.server.engine.engine import InvalidRequest
from graft.server.errors import BadInput, NotReady
from graft.server.grading.grade import Grade
from graft.server.grading.graders import Grader
from graft.server.grading.grading import Grading
from graft.server.grading.judging import Question, Turns, Verdict, Worth
from graft.server.grading.observation import Observation
from graft.server.grading.reading import Allowed, read_grader
from graft.server.grading.sandbox.probe import Unavailable
from graft.server.grading.sandbox.sandbox import Sandbox, Script
from graft.server.grading.sandbox.watch import ScriptFault
from graft.server.runtime.tenant import on_behalf_of
from graft.server.runtime.violations import Violations


class ScriptedJudge:
    """Says what it was told to say."""

    def __init__(self, says: str | Exception = "", *, finished: bool = True) -> None:
        self.says = says
        self.finished = finished
        self.asked: list[Question] = []
        self.judged: list[tuple[list[Mapping[str, str]], str]] = []

    def check(self, model: str) -> None:
        if model != "base":
            raise NotFound(f"there is no model {model}")

    def check_reward(self, model: str) -> None:
        if model != "worth":
            raise InvalidRequest(f"{model} has no head", field="model")

    async def worth(self, model: str, turns: Turns, answer: str) -> Worth:
        self.judged.append((list(turns), answer))
        if isinstance(self.says, Exception):
            raise self.says
        return Worth(reward=-1.5, num_tokens=9)

    async def ask(self, question: Question) -> Verdict:
        self.asked.append(question)
        if isinstance(self.says, Exception):
            raise self.says
        return Verdict(text=self.says, num_tokens=11, finished=self.finished)


def read(value: object) -> Grader:
    violations = Violations()
    grader = read_grader(value, Allowed(no_python=None), violations)
    violations.raise_any()
    assert grader is not None
    return grader


@pytest.fixture(autouse=True)
async def tenant() -> AsyncIterator[None]:
    with on_behalf_of("acme"):
        yield


@pytest.fixture
def grading() -> Iterator[Grading]:
    made = Grading(judge=ScriptedJudge(), sandbox=Unavailable(reason="not asked for"), num_sandboxes=1)
    yield made
    made.close()


@pytest.fixture
def scripts(sandbox: Sandbox) -> Iterator[Grading]:
    made = Grading(judge=ScriptedJudge(), sandbox=sandbox, num_sandboxes=2)
    yield made
    made.close()


async def judged(grader: dict[str, Any], judge: ScriptedJudge, observation: Observation | None = None) -> Grade:
    grading = Grading(judge=judge, sandbox=Unavailable(reason="not asked for"), num_sandboxes=1)
    return await grading.grade(read(grader), observation or Observation(output_text="said", item={"q": "asked"}))


def check(operation: str, reference: str) -> dict[str, Any]:
    return {
        "type": "string_check", "name": "s", "input": "{{sample.output_text}}", "reference": reference,
        "operation": operation,
    }  # fmt: skip


def similar(metric: str, reference: str = "{{item.r}}") -> dict[str, Any]:
    return {
        "type": "text_similarity", "name": "t", "input": "{{sample.output_text}}", "reference": reference,
        "evaluation_metric": metric,
    }  # fmt: skip


def script(body: str) -> dict[str, Any]:
    return {"type": "python", "name": "p", "source": f"def grade(sample, item):\n    {body}\n"}


SCORE = {
    "type": "score_model",
    "name": "m",
    "model": "base",
    "range": [0, 10],
    "input": [{"role": "user", "content": "{{item.q}}: {{sample.output_text}}"}],
}
REWARD = {"type": "reward_model", "name": "r", "model": "worth"}
LABEL = {**SCORE, "type": "label_model", "labels": ["good", "bad"], "passing_labels": ["good"]}
del LABEL["range"]


@pytest.mark.parametrize(
    ("operation", "reference", "reward"),
    [
        ("eq", "Straße 7", 1), ("eq", "straße 7", 0), ("ne", "Straße 7", 0), ("ne", "x", 1),
        ("like", "aße", 1), ("like", "AßE", 0), ("like", "Straße 7 and more", 0), ("ilike", "STRASSE", 1),
        ("like", "%7", 0), ("like", "", 1),
    ],
)  # fmt: skip
async def test_string_check(grading: Grading, operation: str, reference: str, reward: float) -> None:
    grade = await grading.grade(read(check(operation, reference)), Observation(output_text="Straße 7"))
    assert grade == Grade(reward=reward)


async def test_text_similarity(grading: Grading) -> None:
    observation = Observation(output_text="kitten", item={"r": "sitting"})
    assert (await grading.grade(read(similar("fuzzy_match")), observation)).reward == pytest.approx(8 / 13)


@pytest.mark.parametrize(
    ("grader", "kind"),
    [
        (check("eq", "{{item.b}}"), "invalid_variable"),
        (check("eq", "{{sample.output_json.b}}"), "sample_parse"),
        (check("eq", "{{item.long}}" * 20), "truncated_observation"),
        (similar("bleu", "{{item.long}}"), "truncated_observation"),
        (script("return 1"), "python_grader_server"),
    ],
)
async def test_faults(grading: Grading, grader: dict[str, Any], kind: str) -> None:
    grade = await grading.grade(read(grader), Observation(output_text="no JSON", item={"long": "x" * 90_000}))
    assert (grade.reward, [fault.kind for fault in grade.faults]) == (0, [kind])


async def test_multi(grading: Grading) -> None:
    grader = {
        "type": "multi",
        "name": "all",
        "graders": {"a": check("eq", "x"), "b": check("like", "no")},
        "calculate_output": "2 * b - a / 4",
    }
    assert await grading.grade(read(grader), Observation(output_text="x")) == Grade(
        reward=-0.25, sub_rewards={"a": 1, "b": 0}
    )
    divided = {**grader, "calculate_output": "a / b"}
    grade = await grading.grade(read(divided), Observation(output_text="x"))
    assert (grade.reward, [fault.kind for fault in grade.faults]) == (0, ["other"])
    failing = {**grader, "graders": {"a": check("eq", "x"), "b": check("eq", "{{item.b}}")}}
    grade = await grading.grade(read(failing), Observation(output_text="x"))
    assert (grade.reward, grade.sub_rewards["a"], len(grade.faults)) == (0, 1, 1)


async def test_score_model() -> None:
    judge = ScriptedJudge(json.dumps({"steps": [{"description": "d", "conclusion": "c"}], "result": 7.5}))
    assert await judged(SCORE, judge) == Grade(reward=7.5, tokens_by_model={"base": 11})
    (question,) = judge.asked
    assert question.turns == (("user", "asked: said"),)
    assert question.json_schema is not None and "result" in question.json_schema


@pytest.mark.parametrize(
    "says",
    [
        "",
        "7",
        '{"result": 1' + "0" * 400 + "}",
        '{"result": "many"}',
        '{"result": 11}',
        '{"steps": []}',
        "[1]",
        '{"result": NaN}',
    ],
)
async def test_no_score(says: str) -> None:
    grade = await judged(SCORE, ScriptedJudge(says))
    assert (grade.reward, grade.faults[0].kind) == (0, "model_grader_parse")
    assert grade.tokens_by_model == {"base": 11}


async def test_a_model_that_runs_out_of_room() -> None:
    grade = await judged(SCORE, ScriptedJudge('{"steps": [', finished=False))
    assert "max_completions_tokens" in grade.faults[0].details


@pytest.mark.parametrize("error", [NotReady("the engine is starting"), NotFound("no such model")])
async def test_a_model_that_does_not_answer(error: Exception) -> None:
    grade = await judged(SCORE, ScriptedJudge(error))
    assert (grade.faults[0].kind, grade.faults[0].details) == ("model_grader_server", str(error))


async def test_label_model() -> None:
    assert (await judged(LABEL, ScriptedJudge("good"))).reward == 1
    assert (await judged(LABEL, judge := ScriptedJudge("bad"))).reward == 0
    assert judge.asked[0].options == ("good", "bad")
    assert (await judged(LABEL, ScriptedJudge("ugly"))).faults[0].kind == "model_grader_parse"


async def test_reward_model() -> None:
    judge = ScriptedJudge()
    asked = [{"role": "user", "content": "why"}]
    other = [*asked, {"role": "assistant", "content": [{"type": "text", "text": "an answer of the row's"}]}]
    for messages in (asked, other):
        observation = Observation(output_text="so", item={"messages": messages})
        assert await judged(REWARD, judge, observation) == Grade(reward=-1.5, tokens_by_model={"worth": 9})
    assert judge.judged == [(asked, "so")] * 2
    both = {"type": "multi", "name": "all", "graders": {"r": REWARD}, "calculate_output": "(r - (-0.5)) / 2"}
    assert await judged(both, judge, observation) == Grade(
        reward=-0.5, sub_rewards={"r": -1.5}, tokens_by_model={"worth": 9}
    )
    away = await judged(REWARD, ScriptedJudge(NotReady("the engine is starting")), observation)
    assert (away.reward, away.faults[0].kind) == (0, "model_grader_server")


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({}, "item.messages is missing"),
        ({"messages": []}, "nothing that an answer could stand behind"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "nothing that an answer could stand behind"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, r"item.messages\[0\] is no turn"),
    ],
)
async def test_what_no_reward_model_reads(item: dict[str, Any], words: str) -> None:
    grade = await judged(REWARD, judge := ScriptedJudge(), Observation(output_text="so", item=item))
    (fault,) = grade.faults
    assert fault.kind == "invalid_variable" and re.search(words, fault.details) and not judge.judged


async def test_python(scripts: Grading) -> None:
    observation = Observation(output_text='{"n": 3}', item={"n": 4})
    grader = read(script("return sample['output_json']['n'] / item['n'] + len(sample['output_tools'])"))
    assert await scripts.grade(grader, observation) == Grade(reward=0.75)
    grade = await scripts.grade(read(script("return item['m']")), observation)
    assert (grade.reward, grade.faults[0].kind) == (0, "python_grader_runtime")
    assert "KeyError: 'm'" in grade.faults[0].details


async def test_what_only_running_shows(scripts: Grading) -> None:
    violations = Violations()
    await scripts.check(read({**SCORE, "model": "nobody"}), violations)
    await scripts.check(read({**REWARD, "model": "base"}), violations)
    await scripts.check(read({"type": "python", "name": "p", "source": "def grade(:"}), violations)
    await scripts.check(read({"type": "python", "name": "p", "source": "x = 1"}), violations)
    await scripts.check(read(script("return undefined")), violations)
    with pytest.raises(BadInput) as caught:
        violations.raise_any()
    model, headless, unread, undefined = caught.value.violations
    assert (model.field, "nobody" in model.problem) == ("grader.model", True)
    assert (headless.field, headless.problem) == ("grader.model", "base has no head")
    assert (unread.field, "SyntaxError" in unread.problem) == ("grader.source", True)
    assert "no function grade" in undefined.problem


async def test_what_is_too_much(scripts: Grading) -> None:
    """Values that no text, script or message can hold are faults of the answer, and nobody else's."""
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    observation = Observation(output_text="x", item={"deep": deep, "list": [1]})
    shallow, far = Observation(output_text="x", item={"deep": 1}), "9" * 5_000
    graders = [check("eq", "{{item.deep}}"), script("return 1"), check("eq", "{{item.list." + far + "}}")]
    grades = await scripts.grade_all(read(graders[0]), [observation, shallow])
    assert [one.kind for one in grades[0].faults] == ["truncated_observation"] and not grades[1].faults
    found = [await scripts.grade(read(one), observation) for one in graders[1:]]
    assert [one.faults[0].kind for one in found] == ["truncated_observation"] * 2
    grade = await scripts.grade(read(graders[2]), Observation(output_text="x", item={"list": [1]}))
    assert grade.faults[0].kind == "invalid_variable" and len(grade.faults[0].details) <= 2_000


async def test_all_texts_of_an_answer_have_one_limit(grading: Grading) -> None:
    """Sixty-four graders may each name what is long."""
    parts = {f"g{n}": check("eq", "{{item.long}}" * 9) for n in range(64)}
    multi = {"type": "multi", "name": "all", "graders": parts, "calculate_output": "g0"}
    observation = Observation(output_text="x", item={"long": "x" * 100_000})
    grade = await grading.grade(read(multi), observation)
    assert len(grade.faults) == 60 and {one.kind for one in grade.faults} == {"truncated_observation"}
    assert "4000000" in grade.faults[0].details


async def test_an_item_that_is_called_like_the_answers_json(grading: Grading) -> None:
    grade = await grading.grade(read(check("eq", "{{item.output_json}}")), Observation(output_text="no JSON"))
    assert grade.faults[0].kind == "invalid_variable"


async def test_a_sandbox_that_fails_is_nobodys_fault(grading: Grading) -> None:
    with pytest.raises(NotReady, match="could not be tried"):
        await grading.check(read(script("return 1")), Violations())


class SlowScripts:
    """Of sandboxes: one in which every script takes all its time."""

    def __init__(self) -> None:
        self.num_run = 0

    def run(self, script: Script, is_unwanted: object) -> float | ScriptFault:
        self.num_run += 1
        return ScriptFault(kind="time", details="it ran longer than 10 s")


async def test_of_many_scripts_the_first_that_does_not_end_is_the_last_that_is_tried() -> None:
    """Ten seconds each: of sixty-four it would be ten minutes in which nobody's answers are graded."""
    sandbox = SlowScripts()
    grading = Grading(judge=ScriptedJudge(), sandbox=sandbox, num_sandboxes=1)  # type: ignore[arg-type]
    parts = {f"g{number}": {**script("return 1"), "name": f"p{number}"} for number in range(64)}
    violations = Violations()
    many = {"type": "multi", "name": "m", "graders": parts, "calculate_output": " + ".join(parts)}
    await grading.check(read(many), violations)
    grading.close()
    assert sandbox.num_run == 1
    with pytest.raises(BadInput) as raised:
        violations.raise_any()
    assert [one.field for one in raised.value.violations] == ["grader.graders.g0.source"]


async def test_what_is_wrong_within_several_is_told_at_its_place(grading: Grading) -> None:
    graders = {"a": SCORE, "b": {**SCORE, "model": "nobody"}, "c": {**SCORE, "model": "nobody"}}
    violations = Violations()
    several = {"type": "multi", "name": "m", "graders": graders, "calculate_output": "a + b + c"}
    await grading.check(read(several), violations, field="method.reinforcement.grader")
    with pytest.raises(BadInput) as raised:
        violations.raise_any()
    assert [one.field for one in raised.value.violations] == [
        "method.reinforcement.grader.graders.b.model",
        "method.reinforcement.grader.graders.c.model",
    ]
