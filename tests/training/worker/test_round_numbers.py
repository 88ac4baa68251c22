"""OpenAI's hyperparameters of reinforcement as numbers of rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graft.adapters.form import ServingForm
from graft.training.errors import ConfigurationError
from graft.training.reinforce.settings import ReinforceSettings
from graft.training.worker.folder import JobFolder
from graft.training.worker.methods.reinforcement import RoundNumbers, own_settings
from graft.v1 import job_pb2 as pb

AUTO = dict.fromkeys(
    ("n_epochs", "batch_size", "learning_rate_multiplier", "compute_multiplier", "eval_interval", "eval_samples"),
    "auto",
)


def test_auto_is_a_number_of_each() -> None:
    numbers = RoundNumbers.of_job(AUTO, num_rows=1000)
    assert numbers.told == {
        "n_epochs": 3,
        "batch_size": 64,
        "learning_rate_multiplier": 1.0,
        "compute_multiplier": 1.0,
        "eval_samples": 1,
    }
    assert numbers.settings(learning_rate=2e-4) == {
        "num_train_epochs": 3.0,
        "num_prompts": 64,
        "num_generations": 8,
        "eval_samples": 1,
        "learning_rate": 2e-4,
    }


def test_fewer_rows_than_a_round_has_prompts_are_one_round() -> None:
    assert RoundNumbers.of_job(AUTO, num_rows=5).batch_size == 5


@pytest.mark.parametrize(("multiplier", "answers"), [(0.01, 2), (0.5, 4), (1, 8), (4, 32), (128, 1024)])
def test_compute_is_answers_and_two_at_least(multiplier: float, answers: int) -> None:
    numbers = RoundNumbers.of_job({**AUTO, "compute_multiplier": multiplier}, num_rows=1000)
    assert numbers.settings(learning_rate=1.0)["num_generations"] == answers


def test_more_compute_than_there_is_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="take 128 or less"):
        RoundNumbers.of_job({**AUTO, "compute_multiplier": 129}, num_rows=1000)


def test_what_was_asked_is_told() -> None:
    asked = {**AUTO, "eval_interval": 7, "eval_samples": 3, "learning_rate_multiplier": 0.5, "n_epochs": 2}
    numbers = RoundNumbers.of_job(asked, num_rows=1000)
    assert (numbers.told["eval_interval"], numbers.told["eval_samples"], numbers.told["n_epochs"]) == (7, 3, 2)
    assert numbers.settings(learning_rate=2e-4)["learning_rate"] == 1e-4


@pytest.mark.parametrize(
    ("operator", "found"),
    [
        ({}, {"eval_steps": 3, "max_grader_error_share": 1.0}),
        ({"eval_steps": 50}, {"max_grader_error_share": 1.0}),
        ({"eval_steps": 50, "max_grader_error_share": 0.1}, {}),
    ],
)
def test_the_operators_word_is_the_last(operator: dict[str, Any], found: dict[str, Any], tmp_path: Path) -> None:
    job = pb.Job(id="ftjob-1")
    job.spec.hyperparameters.update({"eval_interval": 3, "max_grader_error_share": 1})
    folder = JobFolder(
        path=tmp_path,
        job=job,
        adapter="a",
        base=tmp_path,
        form=ServingForm.NF4,
        target="",
        fence=1,
        settings=operator,
    )
    numbers = RoundNumbers.of_job({**AUTO, "eval_interval": 3}, num_rows=9)
    assert own_settings(folder, numbers, measures=True) == found
    more: dict[str, Any] = {"loss_type": "ppo", "beta": 1, "kl_target": 4, "max_completion_length": 8}
    job.spec.hyperparameters.update({**more, "max_grader_error_share": "auto"})
    said = own_settings(folder, numbers, measures=False)
    assert said == more and type(said["beta"]) is float and type(said["max_completion_length"]) is int
    ReinforceSettings.from_mapping(said)
    assert "eval_steps" not in own_settings(folder, numbers, measures=False)
