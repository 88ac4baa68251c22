"""OpenAI's method `reinforcement`: rounds as `graft reinforce` takes them, sampled on the server that the job is of."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from graft.training.errors import ConfigurationError
from graft.training.reinforce.course import Course
from graft.training.reinforce.job import Reinforce
from graft.training.reinforce.settings import ReinforceSettings
from graft.training.worker.client import WorkerClient
from graft.training.worker.folder import JobFolder
from graft.training.worker.hearing import Hearing, Teller
from graft.training.worker.methods.adapting import (
    LARGE,
    carried_out,
    check_way,
    num_processes,
    record_of,
    settings_of,
)
from graft.training.worker.methods.hyperparameters import AUTO, Numbers, num_rows_of
from graft.training.worker.tell import Tell
from graft.training.worker.trained import Trained

_LEARNING_RATE, _LEARNING_RATE_OF_LARGE = 3e-4, 1e-5
"""What a multiplier of 1 stands for, as the setting's help has it."""
_ANSWERS, _MOST_ANSWERS = 8, 1 << 10
"""To each prompt, where ``compute_multiplier`` is 1."""
_MAX_PROMPTS = 64
_NOT_OPENAIS: Mapping[str, Callable[[Any], Any]] = {
    "loss_type": str,
    "beta": float,
    "kl_target": float,
    "max_completion_length": int,
    "max_grader_error_share": float,
}
"""Hyperparameters that are settings of rounds."""
_OF_ROUNDS = ("n_epochs", "batch_size", "learning_rate_multiplier")


@dataclass(frozen=True, kw_only=True)
class RoundNumbers(Numbers):
    """``batch_size`` is the prompts of a round."""

    num_answers: int
    """To each of them."""
    eval_interval: int | None
    """Rounds from one measuring to the next; None: at the end."""
    eval_samples: int
    """Answers to each held-out prompt."""

    @classmethod
    def of_job(cls, asked: Mapping[str, Any], *, num_rows: int) -> RoundNumbers:
        """Of OpenAI's hyperparameters, each a number or ``auto``. Raises ``ConfigurationError``."""

        def said(name: str) -> Any:
            found = asked.get(name, AUTO)
            return None if found == AUTO else found

        batch = said("batch_size") or min(_MAX_PROMPTS, num_rows)
        numbers = Numbers.of({**asked, "batch_size": batch}, num_rows=num_rows)
        answers = max(2, round(_ANSWERS * float(said("compute_multiplier") or 1.0)))
        if answers > _MOST_ANSWERS:
            raise ConfigurationError(
                f"compute_multiplier {said('compute_multiplier'):g} asks for {answers} answers to a prompt; the most "
                f"are {_MOST_ANSWERS}: take {_MOST_ANSWERS // _ANSWERS} or less."
            )
        return cls(
            **vars(numbers),
            num_answers=answers,
            eval_interval=said("eval_interval"),
            eval_samples=said("eval_samples") or 1,
        )

    @property
    def told(self) -> dict[str, int | float | str]:
        found: dict[str, int | float | str] = {name: getattr(self, name) for name in _OF_ROUNDS}
        found |= {"compute_multiplier": self.num_answers / _ANSWERS, "eval_samples": self.eval_samples}
        return found | ({} if self.eval_interval is None else {"eval_interval": self.eval_interval})

    def settings(self, *, learning_rate: float) -> dict[str, Any]:
        return {
            "num_train_epochs": float(self.n_epochs),
            "num_prompts": self.batch_size,
            "num_generations": self.num_answers,
            "eval_samples": self.eval_samples,
            "learning_rate": learning_rate * self.learning_rate_multiplier,
        }


def train(job: JobFolder, tell: Tell) -> Trained:
    """Raises ``TrainingError``, ``GraftError``: one line says what to change."""
    if num_processes(job) > 1:
        raise ConfigurationError("rounds are learned by one process: start the worker without --ray and torchrun.")
    base, num_rows = job.read_base(), num_rows_of(job.training_file)
    numbers = RoundNumbers.of_job(job.hyperparameters, num_rows=num_rows)
    if not job.told_step and job.hyperparameters.get("reasoning_effort", "default") != "default":
        tell.event(
            "reasoning_effort has no effect: the base writes what it was taught to, and has no efforts of reasoning",
            level="warn",
        )
    rate = _LEARNING_RATE_OF_LARGE if base.num_parameters >= LARGE else _LEARNING_RATE
    wanted = settings_of(job, base, numbers, learning_rate=rate)
    wanted |= own_settings(job, numbers, measures="eval_steps" in wanted)
    settings = ReinforceSettings.from_mapping(wanted)
    training = Reinforce(
        base=base,
        data=job.training_file,
        settings=settings,
        work=job.work,
        job=job.id,
        server=job.target,
        policy=job.adapter,
        alias=None,  # other jobs may learn under the same adapter
        grader=job.grader,
        connect=lambda target: WorkerClient(
            target, token=os.environ.get("GRAFT_TOKEN") or None, job=job.id, fence=job.fence
        ),
        tell=lambda message: tell.event(message, level="warn"),
    )
    check_way(training)
    hearing = Hearing.of(job, tell, record_of(job, base, training))
    training = replace(training, heard_by=functools.partial(_teller, hearing))
    tell.resolved(numbers.told)
    return carried_out(job, training, {"method": "reinforcement", **numbers.told, "settings": vars(settings)})


def own_settings(job: JobFolder, numbers: RoundNumbers, *, measures: bool) -> dict[str, Any]:
    """What the job says of rounds beside their numbers, where the operator says nothing: the operator's is the last
    word.
    """
    found: dict[str, Any] = {}
    if numbers.eval_interval is not None and measures:
        found["eval_steps"] = numbers.eval_interval
    for name, kind in _NOT_OPENAIS.items():
        if (said := job.hyperparameters.get(name, AUTO)) != AUTO:
            found[name] = kind(said)
    return {name: one for name, one in found.items() if name not in job.settings}


def _teller(hearing: Hearing, course: Course, start: int) -> Teller:
    """Of rounds in the place of steps."""
    rounds: Any = SimpleNamespace(
        schedule=course.schedule,
        learning_rate=course.learning_rate,
        checkpoint_steps=course.save_rounds,
        step=SimpleNamespace(number=start),
    )
    return Teller(hearing, rounds)
