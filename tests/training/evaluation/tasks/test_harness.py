"""Task files of lm-evaluation-harness: what is read as it reads them, and what is refused by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from graft.training.errors import DataError
from graft.training.evaluation.tasks import harness
from graft.training.evaluation.tasks.shots import written
from graft.training.evaluation.tasks.task import Kind, Step

CHOICE: dict[str, Any] = {
    "task": "animals",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"train": "train.jsonl", "test": "test.jsonl"}},
    "test_split": "test",
    "fewshot_split": "train",
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{answer}}",
    "doc_to_choice": "{{choices}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}, {"metric": "acc_norm"}],
    "metadata": {"version": 1.0},
}
TRAIN = [{"question": f"q{n}?", "choices": ["x", f"c{n}"], "answer": n % 2} for n in range(8)]
TEST = [{"question": "what?", "choices": ["dog", "cat"], "answer": 1}]


def write(folder: Path, config: dict[str, Any]) -> Path:
    for name, rows in (("train", TRAIN), ("test", TEST)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "animals.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def test_a_choice_task(tmp_path: Path) -> None:
    task = harness.read(write(tmp_path, CHOICE))
    (question,) = task.questions
    assert (task.name, task.kind, task.version) == ("animals", Kind.CHOICE, "1.0")
    assert (question.choices, question.gold, question.targets) == (("dog", "cat"), (1,), ("cat",))
    assert [metric.name for metric in task.metrics] == ["acc", "acc_norm"]
    text = written(task, 0, shots=2, seed=0)
    first, second, last = str(text).split("\n\n")
    assert last == "Question: what?\nAnswer:"
    assert {first, second} <= {f"Question: q{n}?\nAnswer: {['x', f'c{n}'][n % 2]}" for n in range(8)}


@pytest.mark.parametrize(
    ("changes", "choices", "gold"),
    [
        ({"doc_to_target": "answer", "doc_to_choice": "choices"}, ("dog", "cat"), (1,)),
        ({"doc_to_target": "{{choices[answer]}}"}, ("dog", "cat"), (1,)),
        ({"doc_to_choice": ["A", "B"], "doc_to_target": 0}, ("A", "B"), (0,)),
        ({"doc_to_choice": "{{[question, question]}}"}, ("what?", "what?"), (1,)),
        ({"doc_to_choice": {"a": "yes", "b": "no"}}, ("yes", "no"), (1,)),
    ],
)
def test_choices_and_targets(
    changes: dict[str, Any], choices: tuple[str, ...], gold: tuple[int, ...], tmp_path: Path
) -> None:
    rest = {"fewshot_split": "test"}  # other rows need not fit
    (question,) = harness.read(write(tmp_path, {**CHOICE, **rest, **changes})).questions
    assert (question.choices, question.gold) == (choices, gold)


def test_generation_and_filters(tmp_path: Path) -> None:
    config = {key: value for key, value in CHOICE.items() if key not in ("doc_to_choice", "metric_list")}
    config |= {
        "output_type": "generate_until",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["\n", "Q:"], "max_gen_toks": 20, "do_sample": False, "temperature": 0.9},
        "filter_list": [
            {
                "name": "strict",
                "filter": [
                    {"function": "regex", "regex_pattern": "([a-z]+)", "group_select": -1},
                    {"function": "take_first"},
                ],
            }
        ],
        "num_fewshot": 3,
        "fewshot_config": {"sampler": "first_n"},
        "description": "Answer.\n\n",
    }
    task = harness.read(write(tmp_path, config))
    assert (task.stop, task.max_tokens, task.temperature, task.shots) == (("\n", "Q:"), 20, 0.0, 3)
    assert task.readings[0].steps == (Step(function="regex", pattern="([a-z]+)", group=-1),)
    assert str(written(task, 0, shots=1, seed=5)) == "Answer.\n\nQuestion: q0?\nAnswer: x\n\nQuestion: what?\nAnswer:"


def test_steps_are_a_task_of_their_own(tmp_path: Path) -> None:
    config = {key: value for key, value in CHOICE.items() if key not in ("doc_to_choice", "metric_list")}
    config |= {
        "output_type": "generate_until",
        "metadata": {
            "chain_of_thought": {"doc_to_text": "{{question}} Think.", "generation_kwargs": {"max_gen_toks": 99}}
        },
    }
    task = harness.read(write(tmp_path, config))
    assert task.worked is not None
    assert (task.worked.questions[0].prompt, task.worked.max_tokens) == ("what? Think.", 99)
    assert task.questions[0].prompt == "Question: what?\nAnswer:"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"process_docs": "!function utils.f"}, "`process_docs` is not supported"),
    ({"include": "other.yaml"}, "`include` is not supported"),
    ({"dataset_path": "allenai/ai2_arc"}, "`dataset_path: allenai/ai2_arc` is not supported"),
    ({"doc_to_text": "{% if a %}"}, "`{% if a %}` is not supported"),
    ({"doc_to_text": "{{question.upper()}}"}, "question.upper"),
    ({"doc_to_text": "{{nothing}}"}, "there is no field `nothing`"),
    ({"doc_to_target": "{{question}}"}, "which is none of"),
    ({"metric_list": [{"metric": "bleu"}]}, "metric `bleu` is not supported"),
    (
        {"metric_list": [{"metric": "acc"}, {"metric": "acc_mutual_info"}]},
        "metric `acc_mutual_info` is not supported for multiple_choice (it needs each choice's log-probability after",
    ),
    ({"metric_list": [{"metric": "acc", "aggregation": "median"}]}, "`aggregation: median` is not supported"),
    ({"output_type": "loglikelihood_rolling"}, "`output_type: loglikelihood_rolling` is not supported"),
    ({"filter_list": [{"name": "a", "filter": [{"function": "custom"}]}]}, "filter `custom` is not supported"),
    (
        {"filter_list": [{"name": "a", "filter": [{"function": "regex", "regex_pattern": "(?<=a)b"}]}]},
        "no regular expression of RE2",
    ),
    ({"test_split": "dev"}, "there is no split 'dev'"),
    ({"fewshot_config": {"sampler": "balanced"}}, "`sampler: balanced` is not supported"),
    ({"repeats": 5}, "`repeats` is not supported"),
    ({"dataset_kwargs": {"data_files": {"test": "https://example.com/x.jsonl"}}}, "is not local"),
    ({"generation_kwargs": {"top_k": 3}}, "`top_k` is not supported"),
    ({"metadata": {"chain_of_thought": {"metric_list": [{"metric": "acc_bytes"}]}}}, "must be those of the task"),
    ({"metadata": {"chain_of_thought": {"dataset_path": "json"}}}, "`dataset_path` is not supported"),
]


@pytest.mark.parametrize(("changes", "told"), REFUSED, ids=[told[:30] for _, told in REFUSED])
def test_refusals_name_the_part_and_its_line(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = write(tmp_path, {**CHOICE, **changes})
    with pytest.raises(DataError) as error:
        harness.read(path)
    assert told in str(error.value)
    assert f"{path}, line " in str(error.value)


def test_code_is_refused_and_everything_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, CHOICE)
    path.write_text(path.read_text() + "process_results: !function utils.process\nunsafe_code: true\n")
    with pytest.raises(DataError) as error:
        harness.read(path)
    assert "`!function` would run code" in str(error.value) and "`unsafe_code` is not supported" in str(error.value)
