"""Asking and marking, with models that are scripted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from graft.training.errors import ConfigurationError, DataError
from graft.training.evaluation.asking.model import Asked, Decoding, Refused, Scored, Unanswered
from graft.training.evaluation.checks.check import Check, CheckKind
from graft.training.evaluation.reports.junit import junit
from graft.training.evaluation.reports.markdown import markdown
from graft.training.evaluation.reports.text import text
from graft.training.evaluation.running.marking import answer_of, voted
from graft.training.evaluation.running.outcome import Setting
from graft.training.evaluation.running.run import Plan, evaluate
from graft.training.evaluation.tasks.task import (
    Aggregation,
    Example,
    Kind,
    Metric,
    Question,
    Reading,
    Step,
    Task,
)
from tests.training.evaluation.scripted import ScriptedModel

SUMS = Task(
    name="sums",
    kind=Kind.GENERATE,
    questions=tuple(Question(prompt=f"{n}+1=", targets=(str(n + 1),), variables={"n": n}) for n in range(20)),
    metrics=(Metric(name="exact_match"),),
    examples=tuple(Example(prompt=f"{n}+1=", answer=str(n + 1)) for n in range(20)),
    examples_are_questions=True,
    target_delimiter="",
    stop=("\n",),
    readings=(Reading(steps=(Step(function="strip"),)),),
)
CHOICES = Task(
    name="animals",
    kind=Kind.CHOICE,
    questions=(
        Question(prompt="barks:", choices=("dog", "crocodile"), gold=(0,), targets=("dog",)),
        Question(prompt="bites:", choices=("dog", "crocodile"), gold=(1,), targets=("crocodile",)),
    ),
    metrics=tuple(Metric(name=name) for name in ("acc", "acc_norm", "acc_bytes")),
)


def adds(prompt: str, path: int) -> str:
    """The sum in the prompt's last line."""
    first, _ = prompt.rsplit("\n", 1)[-1].split("+")
    return f"{int(first) + 1}\nand more"


def test_every_question_is_asked_in_every_setting() -> None:
    model = ScriptedModel(say_=adds)
    outcomes = evaluate([model], [SUMS], Plan(shots=(0, 2), limit=10))
    assert [one.setting for one in outcomes] == [Setting(shots=0), Setting(shots=2)]
    assert all(one.interval().mean == 1 and len(one.records) == 10 for one in outcomes)
    assert sum(prompt.count("=") == 1 for prompt in model.asked) == 10
    assert sum(prompt.count("=") == 3 for prompt in model.asked) == 10


def test_paths_vote() -> None:
    """Right in paths 1 and 3 of every three: one path is wrong, and three agree on the right answer."""
    model = ScriptedModel(say_=lambda prompt, path: adds(prompt, path) if path % 3 else f"wrong {path}")
    outcomes = evaluate([model], [SUMS], Plan(votes=(1, 3, 20)))
    assert [one.interval().mean for one in outcomes] == [0, 1, 1]
    assert len(model.asked) == 20, "fewer votes are the first of more: nothing is asked twice"
    assert voted(["a", "b", "b", "[invalid]", "[invalid]", "[invalid]"]) == "b"
    assert voted(["[invalid]"]) == "[invalid]" and voted(["a", "b"]) == "a"


def test_steps_in_two_stages() -> None:
    def thinks(prompt: str, path: int) -> str:
        return adds(prompt.split(" Let's")[0], path) if prompt.endswith("answer is") else " Hm, carry nothing."

    model = ScriptedModel(say_=lambda prompt, path: thinks(prompt, path) if "step by step" in prompt else "0")
    direct, worked = evaluate([model], [SUMS], Plan(reasoning=("direct", "chain_of_thought")))
    assert (direct.interval().mean, worked.interval().mean) == (0, 1)
    assert model.asked[-1].endswith("Let's think step by step. Hm, carry nothing.\nTherefore, the answer is")


def test_steps_of_the_task_s_own() -> None:
    worked = replace(SUMS, questions=tuple(replace(one, prompt=f"{one.prompt[:-1]}?") for one in SUMS.questions))
    model = ScriptedModel(say_=lambda prompt, path: adds(f"{prompt[:-1]}=", path) if prompt.endswith("?") else "0")
    outcomes = evaluate(
        [model], [replace(SUMS, worked=worked)], Plan(reasoning=("direct", "chain_of_thought"), limit=5)
    )
    assert [one.interval().mean for one in outcomes] == [0, 1]
    assert len(model.asked) == 10


def test_choices_are_compared_by_each_metric() -> None:
    """Longer choices cost more: plain sums prefer the short one, characters the long one."""
    model = ScriptedModel(score_=lambda prompt, choice: -2.0 - 0.1 * len(choice))
    (outcome,) = evaluate([model], [CHOICES], Plan())
    marks = {key: outcome.marks(key) for key in outcome.keys}
    assert marks["acc,none"] == [1, 0] and marks["acc_norm,none"] == [0, 1] == marks["acc_bytes,none"]
    assert [record.answer for record in outcome.records] == ["dog", "dog"]


def test_perplexity_is_the_exponent_of_the_mean() -> None:
    task = Task(
        name="text",
        kind=Kind.LIKELIHOOD,
        questions=tuple(Question(prompt="a", targets=(" " * n,)) for n in (1, 3)),
        metrics=(
            Metric(name="perplexity", aggregation=Aggregation.PERPLEXITY, higher_is_better=False),
            Metric(name="acc"),
        ),
    )
    (outcome,) = evaluate([ScriptedModel()], [task], Plan())
    assert outcome.interval().mean == pytest.approx(2.718281828**2)
    assert outcome.interval("acc,none").mean == 1


class Short(ScriptedModel):
    """Takes prompts of less than so many characters."""

    def say(self, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
        if len(str(asked.prompt)) > 4:
            raise Refused("too long")
        return super().say(asked, decoding)


def test_what_cannot_be_asked_counts_as_wrong_and_is_said() -> None:
    (outcome,) = evaluate([Short(say_=adds)], [SUMS], Plan())
    assert outcome.num_refused == 10 and outcome.interval().mean == 0.5
    assert {record.problem for record in outcome.records} == {"", "too long"}
    with pytest.raises(DataError, match="none of sums's questions could be asked of scripted: too long"):
        evaluate([Short(say_=adds)], [replace(SUMS, questions=SUMS.questions[10:])], Plan())
    plain, crowded = evaluate([Short(say_=adds)], [SUMS], Plan(shots=(0, 4), limit=5))
    assert (plain.num_refused, crowded.num_refused) == (0, 5), "one setting that does not fit ends no other"


def test_words_without_an_answer_count_as_a_wrong_answer() -> None:
    """Not as a question that could not be asked: a program that never answers has a score, and it is 0."""

    class Mumbling(ScriptedModel):
        def say(self, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
            if len(str(asked.prompt)) > 4:
                raise Unanswered("no answer: there is no number in it")
            return super().say(asked, decoding)

    (outcome,) = evaluate([Mumbling(say_=adds)], [SUMS], Plan())
    assert (outcome.num_refused, len(outcome.unanswered), outcome.interval().mean) == (0, 10, 0.5)
    (outcome,) = evaluate([Mumbling(say_=adds)], [replace(SUMS, questions=SUMS.questions[10:])], Plan())
    assert outcome.interval().mean == 0
    told = "10 ended without an answer and count as wrong (no answer: there is no number in it)"
    assert told in text([outcome]) and "no answer: there is no number in it" in markdown([outcome])
    assert 'failures="10" errors="0"' in junit([outcome]) and "there is no number in it" in junit([outcome])


def test_checks() -> None:
    checks = (Check(kind=CheckKind.CONTAINS, reference=("a",)), Check(kind=CheckKind.STARTS_WITH, reference=("b",)))
    task = Task(
        name="checked",
        kind=Kind.GENERATE,
        questions=(Question(prompt="x", checks=checks), Question(prompt="y", checks=checks, threshold=0.5)),
        metrics=(Metric(name="pass"), Metric(name="score")),
    )
    (outcome,) = evaluate([ScriptedModel(say_=lambda prompt, path: "ca")], [task], Plan())
    assert outcome.marks("pass,none") == [0, 1] and outcome.marks("score,none") == [0.5, 0.5]
    assert outcome.records[0].reason == "starts-with 'b'"


def test_settings_that_do_not_fit_are_refused_before_anything_is_asked() -> None:
    model, program = ScriptedModel(), ScriptedModel(name="prompt:x")
    judged = replace(SUMS, questions=(Question(prompt="x", checks=(Check(kind=CheckKind.RUBRIC),)),), examples=())
    for models, task, plan, told in [
        ([model], CHOICES, Plan(votes=(1, 5)), "neither reason nor vote"),
        ([model], CHOICES, Plan(reasoning=("chain_of_thought",)), "neither reason nor vote"),
        ([model], SUMS, Plan(shots=(20,)), "sums has 19 examples to show; --shots 20 asks for more"),
        ([model], judged, Plan(), "name the model that judges by --judge"),
        ([model, program], SUMS, Plan(shots=(0, 1)), "prompt:x brings its own examples"),
    ]:
        with pytest.raises(ConfigurationError, match=told):
            evaluate(models, [task], plan)
    with pytest.raises(ConfigurationError, match="--judge prompt:x is a program"):
        evaluate([model], [judged], Plan(), judge=program)
    assert not model.asked and not program.asked


def test_a_program_is_given_variables_and_names_the_choice() -> None:
    class Program(ScriptedModel):
        def say(self, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
            return (" dog\n",)

        def score(self, asked: Asked, continuations: Sequence[str]) -> tuple[Scored, ...]:
            raise AssertionError

    (outcome,) = evaluate([Program(name="prompt:pets")], [replace(CHOICES, metrics=CHOICES.metrics[:1])], Plan())
    assert outcome.marks("acc,none") == [1, 0]


@pytest.mark.parametrize(
    ("steps", "said", "answer"),
    [
        ([Step(function="regex", pattern=r"#### (\d+)")], "so\n#### 12", "12"),
        ([Step(function="regex", pattern=r"\d+", group=-1)], "1 2 3", "3"),
        ([Step(function="regex", pattern=r"(a)|(b)")], "b", "b"),
        ([Step(function="regex", pattern="x")], "y", "[invalid]"),
        ([Step(function="lowercase"), Step(function="remove_whitespace")], " YES ", "yes "),
        ([Step(function="first_line")], "\n one \n two", "one"),
        ([Step(function="after_last", pattern=";")], "a;b; c ", "c"),
        ([Step(function="regex", pattern="(a+)+$")], "a" * 100_000 + "b", "[invalid]"),
    ],
)
def test_answers_are_read(steps: list[Step], said: str, answer: str) -> None:
    assert answer_of(said, Reading(steps=tuple(steps))) == answer
