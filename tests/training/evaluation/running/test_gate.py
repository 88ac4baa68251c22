"""Whether a candidate may take a baseline's place."""

from __future__ import annotations

import pytest

from graft.training.errors import ConfigurationError
from graft.training.evaluation.asking.model import Asked, Decoding, Refused
from graft.training.evaluation.gate import Rule, gate
from graft.training.evaluation.running.run import Plan
from tests.training.evaluation.running.test_run import SUMS, adds
from tests.training.evaluation.scripted import ScriptedModel, text_of


def right_below(limit: int, name: str) -> ScriptedModel:
    return ScriptedModel(
        name=name,
        say_=lambda prompt, path: adds(prompt, path) if int(prompt.rsplit("\n", 1)[-1].split("+")[0]) < limit else "no",
    )


@pytest.mark.parametrize(
    ("before", "after", "rule", "passes"),
    [
        (10, 10, Rule(), True),
        (10, 9, Rule(), False),
        (10, 9, Rule(min_delta=-0.05), True),
        (10, 12, Rule(min_delta=0.1), True),
        (10, 11, Rule(min_delta=0.1), False),
        (10, 11, Rule(is_certain=True), False),
        (10, 15, Rule(is_certain=True), False),
        (10, 16, Rule(is_certain=True), True),
        (10, 10, Rule(is_certain=True, min_delta=-0.25), True),
        (10, 10, Rule(is_certain=True, min_delta=-0.05), False),
        (10, 11, Rule(is_certain=True, min_delta=0.01), False),
        (2, 18, Rule(is_certain=True, min_delta=0.5), True),
        (10, 12, Rule(min_score=0.7), False),
    ],
)
def test_the_rule(before: int, after: int, rule: Rule, passes: bool) -> None:
    verdict = gate(right_below(before, "old"), right_below(after, "new"), [SUMS], Plan(), rule)
    assert verdict.passed == passes
    (task,) = verdict.tasks
    assert (task.baseline, task.candidate) == (before / 20, after / 20)
    assert verdict.report().startswith("PASS" if passes else "FAIL")
    assert f"difference {(after - before) / 20:+.4f}" in verdict.report()


@pytest.mark.parametrize("num", [1, 5, 6])
@pytest.mark.parametrize("min_delta", [0.0, 0.5, -0.05])
def test_few_questions_are_never_certain(num: int, min_delta: float) -> None:
    rule = Rule(is_certain=True, min_delta=min_delta)
    verdict = gate(right_below(0, "old"), right_below(20, "new"), [SUMS], Plan(limit=num), rule)
    assert verdict.passed == (num == 6 and min_delta < 0.5), verdict.report()
    assert verdict.tasks[0].comparison.low < verdict.tasks[0].comparison.high


def test_every_task_must_pass_and_both_models_are_asked_the_same() -> None:
    old, new = right_below(20, "old"), right_below(20, "new")
    assert gate(old, new, [SUMS], Plan(shots=(3,)), Rule()).passed
    assert sorted(old.asked) == sorted(new.asked)


class Refusing(ScriptedModel):
    """Refuses the first so many questions and is right in the others."""

    num_refused = 20

    def say(self, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
        if int(text_of(asked).split("+")[0]) < self.num_refused:
            raise Refused("is too long")
        return super().say(asked, decoding)


@pytest.mark.parametrize("rule", [Rule(), Rule(min_delta=0.02), Rule(min_delta=-1)])
@pytest.mark.parametrize("is_baseline", [True, False])
def test_a_model_that_could_not_be_asked_is_not_measured(is_baseline: bool, rule: Rule) -> None:
    refusing, right = Refusing(name="mute", say_=adds), right_below(20, "right")
    before, after = (refusing, right) if is_baseline else (right, refusing)
    verdict = gate(before, after, [SUMS], Plan(), rule)
    assert not verdict.passed
    assert "none of the questions could be asked of mute (is too long)" in verdict.report()


def test_both_counts_of_refused_questions_are_told() -> None:
    refusing = Refusing(name="half", say_=adds)
    refusing.num_refused = 10
    verdict = gate(refusing, right_below(20, "right"), [SUMS], Plan(), Rule())
    assert verdict.passed and "could not be asked or judged: 10 → 0" in verdict.report()
    assert (verdict.tasks[0].baseline_refused, verdict.tasks[0].candidate_refused) == (10, 0)
    assert (
        "could not be asked or judged: 0 → 10" in gate(right_below(20, "x"), refusing, [SUMS], Plan(), Rule()).report()
    )


def test_a_gate_has_one_setting_and_two_models() -> None:
    model = right_below(1, "same")
    with pytest.raises(ConfigurationError, match="one setting"):
        gate(model, right_below(1, "other"), [SUMS], Plan(shots=(0, 1)), Rule())
    with pytest.raises(ConfigurationError, match="name two models"):
        gate(model, model, [SUMS], Plan(), Rule())
