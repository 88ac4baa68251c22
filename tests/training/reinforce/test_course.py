"""A course of rounds: broken off anywhere it goes on as it would have; sampled ahead it knows how old answers are."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from graft.training.loop.optim import Schedule
from graft.training.objective.reinforce.policy import MISMATCH
from graft.training.reinforce.asking.ahead import Ahead
from graft.training.reinforce.asking.sampler import Files, Prompt
from graft.training.reinforce.choosing import Choosing
from graft.training.reinforce.course import Course
from graft.training.reinforce.kl_control import AdaptiveKl
from graft.training.reinforce.rollout import Rollout
from graft.training.reinforce.rounds import Rounds
from tests.training.reinforce.local import LocalSampler
from tests.training.reinforce.test_rounds import PLAN, by_groups, penalised_lessons, rounds

NUM_ROUNDS = 3


class Killed(BaseException):
    """Nothing of a course hears of it."""


def course(folder: Path, *, ahead: int = 0, **more: Any) -> Course:
    torch.manual_seed(0)
    objective, _ = by_groups("rloo", "rloo")
    plan = replace(PLAN, ahead=ahead, num_rounds=NUM_ROUNDS)
    kl = AdaptiveKl(beta=0.01, target=0.1)
    going = rounds(objective, penalised_lessons, plan=plan, kl=kl, choosing=Choosing(max_age=2 * ahead))
    return Course(
        rounds=going,
        schedule=Schedule(num_steps=NUM_ROUNDS, warmup_steps=2, floor=0.0, shape="cosine"),
        learning_rate=0.03,
        folder=folder,
        save_rounds=1,
        shows=False,
        **more,
    )


def weights(going: Course) -> Mapping[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in going.rounds.step.state.masters.items()}


def told(folder: Path) -> list[dict[str, Any]]:
    """What does not hang on the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: one for name, one in row.items() if not name.startswith(("seconds", "tokens_per", "mem"))}
        for row in rows
    ]


@pytest.mark.parametrize("taken", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_course_that_was_killed_goes_on_as_it_would_have(taken: int, tmp_path: Path, monkeypatch: Any) -> None:
    whole = course(tmp_path / "whole")
    whole.execute()
    broken, take = course(tmp_path / "broken"), Rounds.take

    def take_some(self: Rounds, number: int, learning_rate: float) -> dict[str, float]:
        if number == taken:
            take(self, number, learning_rate)  # learned and published, and nothing of it was kept
            raise Killed
        return take(self, number, learning_rate)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Rounds, "take", take_some)
        broken.execute()
    resumed = course(tmp_path / "broken")
    resumed.execute(resume=True)
    there, found = weights(whole), weights(resumed)
    assert all(torch.equal(there[name], found[name]) for name in there)
    assert told(tmp_path / "broken") == told(tmp_path / "whole")
    sampler: Any = resumed.rounds.sampler
    assert sampler.published[1] == 2 * taken, "the policy of the checkpoint is what samples, before anything is learned"


class Copied(LocalSampler):
    """It answers by a copy of what was published, as a server does, whatever the model learns meanwhile."""

    def __init__(self, model: Any) -> None:
        super().__init__(copy.deepcopy(model), num_answers=6, max_tokens=4)
        self._live, self._lock = model, threading.Lock()

    def sample(self, prompts: Sequence[Prompt], *, seed: int) -> list[list[Rollout]]:
        with self._lock:
            return super().sample(prompts, seed=seed)

    def score(self, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]]) -> list[list[float]]:
        with self._lock:
            return super().score(prompt_ids, answers)

    def publish(self, files: Files, *, step: int) -> str:
        with self._lock:
            self._model.load_state_dict(self._live.state_dict())
            return super().publish(files, step=step)


def test_rounds_that_are_sampled_ahead_are_as_old_as_that(tmp_path: Path) -> None:
    going = course(tmp_path, ahead=1)
    going.rounds.sampler = Copied(going.rounds.step.model)
    going.execute()
    rows = told(tmp_path)
    assert all(0 <= row["staleness"] <= 2 and row["dropped/old"] == 0 for row in rows)
    assert rows[0]["staleness"] == 0 and rows[1]["staleness"] > 0
    assert all(row[MISMATCH] < 1e-4 for row in rows), "of old answers, too: they are scored by the newest"


def test_a_course_ends_where_what_is_held_out_is_worth_enough(tmp_path: Path) -> None:
    worth = iter([0.1, 0.4, 0.9, 0.95])
    going = course(tmp_path, measure=lambda: {"validation_reward": next(worth)}, target=0.85)
    assert going.execute()["validation_reward"] == 0.9
    rows = told(tmp_path)
    assert [row.get("validation_reward") for row in rows] == [0.4, 0.9]
    assert rows[0]["validation_reward_before"] == 0.1
    assert (tmp_path / "checkpoint-2").is_dir()


def test_a_round_is_asked_for_once_and_no_more_of_them_than_there_are() -> None:
    asked: list[int] = []

    def ask(number: int) -> int:
        asked.append(number)
        return number * number

    with Ahead(ask, ahead=2, end=4) as ahead:
        assert [ahead.take(number) for number in range(4)] == [0, 1, 4, 9]
    assert asked == [0, 1, 2, 3]


def test_what_asking_raises_is_raised_where_it_is_taken() -> None:
    def ask(number: int) -> int:
        if number == 1:
            raise LookupError("nobody is there")
        return number

    with Ahead(ask, ahead=1, end=3) as ahead:
        assert ahead.take(0) == 0
        with pytest.raises(LookupError, match="nobody"):
            ahead.take(1)


def test_a_course_in_which_nothing_was_learned_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    going = course(tmp_path)
    going.rounds.grade = lambda answers: [1.0] * len(answers)
    going.execute()
    assert "nothing was learned" in caplog.text and going.rounds.step.number == 0
    assert [row["loss"] for row in told(tmp_path)] == [None] * NUM_ROUNDS


def test_a_policy_that_does_not_begin_as_the_base_is_published_before_it_samples(tmp_path: Path) -> None:
    going = course(tmp_path, publishes_first=True)
    sampler: Any = going.rounds.sampler
    versions: list[list[int]] = []
    sample = sampler.sample

    def watched(prompts: Sequence[Prompt], *, seed: int) -> list[list[Rollout]]:
        versions.append(list(sampler.published))
        return sample(prompts, seed=seed)

    sampler.sample = watched
    going.execute()
    assert versions[0] == [0, 0], "its version of no step"
