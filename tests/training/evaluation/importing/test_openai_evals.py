"""OpenAI's evals: one as the API takes it, and what is refused by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graft.training.errors import ConfigurationError, DataError
from graft.training.evaluation.asking.model import Turn
from graft.training.evaluation.checks.check import CheckKind
from graft.training.evaluation.importing import openai_evals, reading
from graft.training.evaluation.running.run import Plan, evaluate
from tests.training.evaluation.scripted import ScriptedModel

FILES = Path(__file__).parent / "files"
EVAL, RUN = FILES / "tickets.json", FILES / "tickets_run.json"


def test_an_eval_and_its_run() -> None:
    task = openai_evals.read(EVAL, run=RUN)
    assert (task.name, len(task.questions), task.max_tokens) == ("Support tickets", 3, 16)
    prompt = task.questions[1].prompt
    assert isinstance(prompt, tuple)
    assert prompt[0].role == "system" and prompt[1] == Turn(role="user", content="I'm in vim and I can't quit! 😀")
    kinds = [check.kind for check in task.questions[0].checks]
    assert kinds == [CheckKind.EQUALS, CheckKind.SIMILARITY, CheckKind.LABEL, CheckKind.SCORE]
    label = task.questions[0].checks[2]
    assert label.turns[1].content == ("Ticket: ", "My monitor won't turn on!", "\nReply: ", None)


def test_it_runs() -> None:
    task = reading.import_file(EVAL, run=RUN)
    answers = {"monitor": "Hardware", "vim": "Software", "Cleveland": "Otter"}
    model = ScriptedModel(say_=lambda prompt, path: next(said for name, said in answers.items() if name in prompt))
    judge = ScriptedModel(
        name="judge", say_=lambda prompt, path: '{"score": 4}' if "Grade" in prompt else '{"label": "polite"}'
    )
    (outcome,) = evaluate([model], [task], Plan(), judge=judge)
    assert outcome.marks("pass,none") == [1, 1, 0]
    assert outcome.marks("score,none")[0] == pytest.approx((1 + 1 + 1 + 0.75) / 4)
    with pytest.raises(ConfigurationError, match="label_model, score_model: name the model that judges"):
        evaluate([model], [task], Plan())


def test_items_of_a_file_and_a_run_inside(tmp_path: Path) -> None:
    data = tmp_path / "items.jsonl"
    data.write_text('{"item": {"ticket_text": "a", "correct_label": "Other"}}\n')
    assert len(openai_evals.read(EVAL, run=RUN, data=data).questions) == 1
    whole = tmp_path / "whole.json"
    whole.write_text(
        json.dumps({**json.loads(EVAL.read_text()), "data_source": json.loads(RUN.read_text())["data_source"]})
    )
    assert reading.read(str(whole)) == openai_evals.read(EVAL, run=RUN)
    with pytest.raises(ConfigurationError, match="give the run's file"):
        openai_evals.read(EVAL)


def changed(folder: Path, criterion: dict[str, Any] | None = None, **changes: Any) -> Path:
    value = {**json.loads(EVAL.read_text()), **changes}
    if criterion is not None:
        value["testing_criteria"] = [criterion]
    path = folder / "eval.json"
    path.write_text(json.dumps(value, indent=1))
    return path


@pytest.mark.parametrize(
    ("criterion", "told"),
    [
        ({"type": "python", "name": "p", "source": "def grade(): ..."}, "grader `python` would run code"),
        ({"type": "multi", "graders": [], "calculate_output": "a"}, "grader `multi` is not supported"),
        (
            {"type": "text_similarity", "input": "a", "reference": "b", "evaluation_metric": "cosine"},
            "`evaluation_metric: cosine` is not supported",
        ),
        ({"type": "string_check", "input": "a", "reference": "b", "operation": "gt"}, "`operation` is one of"),
        (
            {"type": "string_check", "input": "{{sample.output_json.a}}", "reference": "b", "operation": "eq"},
            "there is no field `sample`",
        ),
        (
            {"type": "string_check", "input": "{{item.other}}", "reference": "b", "operation": "eq"},
            "has no `other`",
        ),
        (
            {"type": "label_model", "input": [], "labels": ["a"], "passing_labels": ["b"]},
            "`passing_labels` must be among `labels`",
        ),
        ({"type": "score_model", "input": [], "range": [1, 1]}, "`range` must be two numbers"),
    ],
)
def test_refusals(criterion: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = changed(tmp_path, criterion)
    with pytest.raises(DataError) as error:
        openai_evals.read(path, run=RUN)
    assert told in str(error.value) and f"{path}, line " in str(error.value)


def test_other_data_sources_and_items_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`data_source_config` of type `stored_completions` is not supported"):
        openai_evals.read(changed(tmp_path, data_source_config={"type": "stored_completions"}), run=RUN)
    data = tmp_path / "items.jsonl"
    data.write_text('{"ticket_text": "a", "correct_label": "Unknown"}\n')
    with pytest.raises(DataError, match="item 1 does not follow the schema: 'Unknown' is not one of"):
        openai_evals.read(EVAL, run=RUN, data=data)


def test_a_file_of_neither_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("task: x\n")
    with pytest.raises(DataError, match="neither a promptfoo configuration"):
        reading.import_file(path)
    with pytest.raises(ConfigurationError, match="belong to an OpenAI eval"):
        reading.read(str(path), run=RUN)
