"""Supervised fine-tuning, a reward model, PPO (Ouyang et al. 2022, arXiv:2203.02155, section 3), each a job of one
server: the reward model and the policy go on from the supervised adapter, which is the policy's reference.

All that is remembered is on the server: whoever comes again with the same finds the jobs by their metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base
from graft.client import Client, Observation
from graft.client.fine_tuning.values import values_of
from graft.training.batch.encoding import RowEncoder
from graft.training.chain.following import Following, StageFailed
from graft.training.chain.measuring import Measured, measured
from graft.training.chain.plan import Stage, grader_of, stages_of
from graft.training.chain.rows import Preferred, Rows
from graft.training.chain.settings import PPO, REWARD, SUPERVISED, ChainSettings
from graft.training.errors import ConfigurationError
from graft.training.evaluation.asking.side_by_side import asked_again
from graft.training.job.publish import check_server, connect
from graft.training.model.loading import load_tokenizer
from graft.training.reinforce.asking.questions import Questions
from graft.v1 import job_pb2 as pb

_CENTRED_ON = 256
"""Chosen answers of the rows by which rewards are brought to mean 0 and deviation 1."""
_NUM_IN_A_CALL = 64
_GRADE_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Chained:
    """The jobs, in the stages' order, with all that they have told, and what is held out."""

    jobs: Mapping[str, pb.Job]
    events: Mapping[str, Sequence[pb.JobEvent]]
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Chain:
    """``name`` is the adapter that comes out; ``serve`` gives the gRPC of a server with a worker."""

    base: Base
    data: Path
    name: str
    settings: ChainSettings
    serve: Callable[[], AbstractContextManager[str]]
    tell: Callable[[str], None]

    def execute(self) -> Chained:
        """All jobs that are not there yet; everything about rows and settings is found before the first.

        Raises:
            DataError, ConfigurationError, InvalidBase: one line says what to change.
            StageFailed, GraftClientError: what was done stays done.
        """
        rows = self._rows
        self.tell(
            f"{len(rows.learned)} rows to learn from, {len(rows.held_out)} held out, {rows.num_long} left out for "
            "their length"
        )
        with self.serve() as target:
            model = self._checked(target)
            with connect(target) as client:
                return self._carried_out(client, Following(client=client, tell=self.tell), model)

    def _carried_out(self, client: Client, following: Following, base: str) -> Chained:
        """``base`` is what the server calls it."""
        supervised, reward, ppo = stages_of(self.name, self._rows, self.settings, base=self.base.digest)
        jobs: dict[str, pb.Job] = {}

        def done(stage: Stage, model: str, grader: Callable[[], Mapping[str, Any]] | None = None) -> None:
            self.tell(f"{len(jobs) + 1} of 3: {_SAID[stage.name]}")
            job = following.known(stage)
            if job is None:
                options = stage.options.copy()
                if grader is not None:
                    options["grader"] = grader()
                job = following.made(stage, model=model, options=options)
            jobs[stage.name] = following.ended(job)

        done(supervised, base)
        first = jobs[SUPERVISED].fine_tuned_model
        done(reward, first)
        done(ppo, first, lambda: self._grader(client, jobs[REWARD].fine_tuned_model))
        self.tell("what is held out, by the base, the supervised model and the policy")
        found = measured(
            client,
            self._questions,
            self.settings,
            grader=values_of(jobs[PPO].spec.grader),
            supervised=first,
            policy=jobs[PPO].fine_tuned_model,
        )
        events = {name: client.job_events(job.id)[::-1] for name, job in jobs.items()}
        return Chained(jobs=jobs, events=events, measured=found)

    def _checked(self, target: str) -> str:
        """What the server calls the base. Raises ``ConfigurationError`` with all that keeps it from the whole of it."""
        info, reasons = check_server(target, flag="--server"), []
        if info.base.digest != self.base.digest:
            reasons.append(f"it serves the base {info.base.name}, and --base is {self.base.name}")
        if not info.limits.num_slots:
            reasons.append("it has no slots for adapters (see its --num-slots)")
        if not info.limits.max_labels:
            reasons.append("it computes no heads, as engines on CPUs do, and a reward model is one")
        if reasons:
            raise ConfigurationError(f"--server {target}: {'; '.join(reasons)}.")
        return info.base.name

    def _grader(self, client: Client, model: str) -> Mapping[str, Any]:
        """With rewards of mean 0 and deviation 1 over rows that were learned from. Raises ``StageFailed``."""
        chosen = [_observation(row) for row in self._rows.learned[:_CENTRED_ON]]
        rewards: list[float] = []
        for begin in range(0, len(chosen), _NUM_IN_A_CALL):
            part = chosen[begin : begin + _NUM_IN_A_CALL]
            grades = asked_again(lambda part=part: client.grade(grader_of(model), part, timeout=_GRADE_SECONDS))  # type: ignore[misc]
            if faults := [fault.details for one in grades for fault in one.faults]:
                raise StageFailed(f"{model} says no number: {faults[0]}")
            rewards += [one.reward for one in grades]
        return grader_of(model, rewards)

    @cached_property
    def _rows(self) -> Rows:
        said, path = self.settings, self.base.path
        encoder = RowEncoder(load_tokenizer(path), stop_ids=base_files.stop_ids(path))
        return Rows.read(
            self.data,
            encoder,
            max_tokens=said.max_tokens,
            max_answer=said.max_answer,
            held_out=said.held_out,
            seed=said.seed,
        )

    @cached_property
    def _questions(self) -> Questions:
        items = [row.question for row in self._rows.held_out]
        return Questions.of(items, load_tokenizer(self.base.path))


_SAID = {SUPERVISED: "supervised fine-tuning", REWARD: "the reward model", PPO: "PPO"}


def _observation(row: Preferred) -> Observation:
    return Observation(output_text=str(row.chosen["content"]), item=row.question)
