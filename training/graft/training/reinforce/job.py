"""From a base, prompts and rewards to an adapter: every round is sampled on the server that will serve it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import torch
from torch import nn

from graft.adapters.digest import digest_of_json
from graft.adapters.folder.record import TrainedRecord
from graft.client import Client
from graft.training.adapt.adapted import adapted
from graft.training.adapt.adapting import Adapting
from graft.training.adapt.identity import identity
from graft.training.adapt.made.in_memory import adapter_in_memory
from graft.training.adapt.made.reference import recorded
from graft.training.adapt.made.written import Written, folder_of, lineage, write_checkpoint
from graft.training.adapt.methods.catalog import warn_of_unused
from graft.training.adapt.optimizers import check_optimizer, optimizers_of
from graft.training.errors import ConfigurationError
from graft.training.job.folder import Identity
from graft.training.job.publish import check_server_for, connect
from graft.training.launch.processes import Processes
from graft.training.loop.checkpoint import Keeping
from graft.training.loop.optim import Schedule
from graft.training.loop.progress import Listener
from graft.training.loop.step import Step
from graft.training.loop.telemetry import check_report_to, listeners
from graft.training.model.dropout import without_dropout
from graft.training.model.loading import load_tokenizer
from graft.training.objective.packable import check_causal, check_packing
from graft.training.objective.policy import begin_as
from graft.training.objective.reinforce.values import WithValues
from graft.training.parallel.layout import Alone
from graft.training.reinforce.asking.asked_grader import AskedGrader
from graft.training.reinforce.asking.grader_faults import Tolerance
from graft.training.reinforce.asking.grading import by_function, check_grader, load_reward
from graft.training.reinforce.asking.questions import Questions
from graft.training.reinforce.asking.served import ALIAS, Asking, ServedPolicy
from graft.training.reinforce.batches import Laying
from graft.training.reinforce.course import Course
from graft.training.reinforce.learning import Learning
from graft.training.reinforce.rounds import Grade, Rounds
from graft.training.reinforce.settings import ReinforceSettings
from graft.training.runtime.device import device_kind

_log = logging.getLogger(__name__)
_REFERENCE_ROWS = 8
_POLICY = "/policy"


@dataclass(frozen=True, kw_only=True)
class Reinforce(Adapting[ReinforceSettings]):
    """One training on rewards. ``work`` gets checkpoints, metrics and ``adapter/``; on the server every round makes a
    version of the adapter ``policy``, and the newest stay.
    """

    data: Path
    server: str
    """HOST:PORT of its gRPC."""
    policy: str
    """Name of the adapter whose versions are sampled."""
    grader: Mapping[str, Any] | None = None
    """In OpenAI's words."""
    reward: str | None = None
    """In its place: ``module:function`` or ``file.py:function``, called with a row and an answer's text."""
    connect: Callable[[str], Client] = connect
    """To the server, as whom its versions belong to."""
    tell: Callable[[str], None] = _log.warning
    """Of what the training's owner should know."""
    alias: str | None = ALIAS
    """On the server it is moved to each version. None: they have none, and go when the training ends; what stays is
    for its starter to push.
    """
    heard_by: Callable[[Course, int], Listener] | None = None
    """Makes one more listener."""

    def absolute(self) -> Self:
        raise ConfigurationError("rounds are learned by one process: leave --ray and torchrun out.")

    def execute(self, processes: Processes | None = None, *, resume: bool = False) -> Path:
        """Trains and returns the adapter's folder; everything the user may have got wrong is found before anything is
        written.

        Raises:
            DataError, ConfigurationError, CheckpointError, InvalidBase: one line says what to change.
            GraftClientError: the server was away for longer than samplers wait.
        """
        processes = processes or Processes(num=1, device=device_kind())
        if processes.num > 1:
            self.absolute()
        self.check_work(resume=resume)
        check_report_to(self.settings)
        check_optimizer(self.settings, processes.device)
        if (self.grader is None) is (self.reward is None):
            raise ConfigurationError("say one of --grader and --reward: it decides what answers are worth.")
        questions, held_out = self._questions()
        schedule = _schedule(self.settings, len(questions.prompts))
        own = self._identity(schedule)
        self.folder.num_shared(own)
        method, base = self.method()
        warn_of_unused(method, self.settings)
        check_server_for(self.server, self.base, self.form, rank=method.way(base).rank or 0, flag="--server")
        with self.connect(self.server) as client:
            grade = self._grade(client, questions)
            torch.manual_seed(self.settings.seed)
            course, sampler = self._course(client, grade, questions, own)
            if held_out is not None:
                course.measure = functools.partial(
                    _measured, sampler, held_out, self._grade(client, held_out), self.settings.eval_samples
                )
            with self.folder.claimed(own, processes, Alone(), resume=resume):
                if resume:
                    sampler.recall(self._record(own, part=_POLICY).lineage.job)
                course.execute(resume=resume)
                self._write(course, sampler, questions, own, processes)
                if self.alias is None:
                    sampler.leave()
        return self.work / folder_of(method, base)

    def _questions(self) -> tuple[Questions, Questions | None]:
        """To learn from, and to measure by."""
        tokenizer, room = load_tokenizer(self.base.path), self.settings.room
        held_out, learned = self.settings.validation, Questions.read(self.data, tokenizer, max_tokens=room)
        return learned, None if held_out is None else Questions.read(Path(held_out), tokenizer, max_tokens=room)

    def _identity(self, schedule: Schedule) -> Identity:
        found = identity(self.base, self.form, self.data, self.settings, schedule, dp=1)
        worth = self.reward or digest_of_json(dict(self.grader or {}))
        kept = {name: one for name, one in found.values.items() if name not in ("num_streams", "num_rounds")}
        return replace(found, values={**kept, "what answers are worth": worth})

    def _grade(self, client: Client, questions: Questions) -> Grade:
        if self.reward is not None:
            return by_function(load_reward(self.reward), questions.items)
        assert self.grader is not None
        check_grader(client, self.grader, questions.items[0])
        tolerance = Tolerance(max_share=self.settings.max_grader_error_share)
        return AskedGrader(client, self.grader, questions.items, tolerance=tolerance, tell=self.tell)

    def _course(self, client: Client, grade: Grade, questions: Questions, own: Identity) -> tuple[Course, ServedPolicy]:
        settings, learning = self.settings, Learning(settings=self.settings)
        method, base = self.method()
        policy = adapted(base, self.form, method, settings, Alone())
        check_causal(policy)
        check_packing(policy)
        without_dropout(policy)
        if settings.start is not None:
            begin_as(policy)
        rate_of = method.learning(policy, own.schedule.num_steps).rate_of
        step = Step(
            learning.model(policy),
            objective=learning.objective,
            optimizers=optimizers_of(settings, rate_of),
            max_gradient_norm=settings.max_grad_norm,
        )
        asking = Asking(
            num_answers=settings.num_generations,
            max_tokens=settings.max_completion_length,
            stop=settings.stop,
            num_streams=settings.num_streams,
        )
        sampler = ServedPolicy(client, self.policy, asking=asking, num_kept=settings.rounds_ahead + 2, alias=self.alias)
        # Another origin than what comes out, so that equal weights are no one version: the policy's own go again.
        record = self._record(own, part=_POLICY)
        rounds = Rounds(
            plan=learning.plan(own.schedule.num_steps),
            step=step,
            sampler=sampler,
            prompts=functools.partial(questions.drawn, num=settings.num_prompts, seed=settings.seed),
            grade=grade,
            lessons=learning.lessons,
            laying=Laying(pad_id=load_tokenizer(self.base.path).pad_token_id or 0, tokens=settings.tokens_per_batch),
            files=lambda model: adapter_in_memory(method, _policy(model), record),
            choosing=learning.choosing,
            kl=learning.kl,
        )
        course = Course(
            rounds=rounds,
            schedule=own.schedule,
            learning_rate=settings.learning_rate,
            folder=self.work,
            save_rounds=settings.save_steps or max(1, own.schedule.num_steps // 10),
            keeping=Keeping.of(settings),
            publishes_first=settings.start is not None,
            write_model=lambda: functools.partial(write_checkpoint, method, Alone(), policy),
            listeners=lambda start: [
                *listeners(self.work, settings, start=start),
                *([] if self.heard_by is None else [self.heard_by(course, start)]),
            ],
            measure_rounds=settings.eval_steps or own.schedule.num_steps,
            target=settings.target_reward,
        )
        return course, sampler

    def _record(self, own: Identity, *, part: str = "") -> TrainedRecord:
        origin = lineage("reinforce", own, seed=self.settings.seed, job=self.job)
        origin = replace(origin, job=f"{origin.job}{part}")
        return TrainedRecord(base=self.base.identity, form=self.form, lineage=origin)

    def _write(
        self, course: Course, sampler: ServedPolicy, questions: Questions, own: Identity, processes: Processes
    ) -> None:
        """With what the policy answers to some prompts as the rows of its reference."""
        answers = sampler.measure(questions.prompts[:_REFERENCE_ROWS])
        model, (method, base) = _policy(course.rounds.step.finish()), self.method()
        written = Written.into(self.work, method, base, self._record(own))
        rows = [one.answer for (one,) in answers]
        written.write(model, lambda: recorded(model, rows, self.form), processes, is_sharded=False)


def _policy(model: nn.Module) -> nn.Module:
    return model.policy if isinstance(model, WithValues) else model


def _schedule(settings: ReinforceSettings, num_prompts: int) -> Schedule:
    """Over rounds."""
    num = settings.num_rounds or max(1, round(settings.num_train_epochs * num_prompts / settings.num_prompts))
    warmup = round(num * settings.warmup_ratio) if settings.warmup_steps is None else settings.warmup_steps
    return Schedule(num_steps=num, warmup_steps=warmup, floor=settings.lr_min_ratio, shape=settings.lr_scheduler_type)


def _measured(sampler: ServedPolicy, questions: Questions, grade: Grade, num_answers: int) -> dict[str, float]:
    """The mean reward of so many answers to each question, sampled as in the rounds."""
    answers = sampler.measure(questions.prompts, num_answers=num_answers)
    asked = [(row, one) for row, own in enumerate(answers) for one in own]
    rewards = [one for one in grade(asked) if one is not None]
    return {"validation_reward": fmean(rewards)} if rewards else {}
