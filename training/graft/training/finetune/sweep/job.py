"""Several fine-tunings of one base at once: each ends in its own folder as if it had been alone."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from graft.adapters.base.base import Base
from graft.adapters.errors import InvalidBase
from graft.training.adapt.attending import circumstances
from graft.training.adapt.beside.layer import compute_at_once
from graft.training.adapt.optimizers import check_optimizer
from graft.training.adapt.together.met import Met
from graft.training.adapt.together.training import Member, train_together
from graft.training.adapt.together.twin import twin
from graft.training.errors import ConfigurationError, TrainingError
from graft.training.finetune.job import Finetune
from graft.training.finetune.ready import Ready
from graft.training.finetune.sweep.against import check_together
from graft.training.finetune.sweep.board import Board
from graft.training.finetune.sweep.grid import Wanted
from graft.training.finetune.sweep.results import Result, write
from graft.training.launch.processes import Processes
from graft.training.loop.interruption import Interruption
from graft.training.model.blocks import recompute
from graft.training.model.loading import load_base
from graft.training.objective.attending import check_handing_down, choose_attention
from graft.training.objective.packable import check_causal, check_packing
from graft.training.runtime.device import device_kind, own_device
from graft.training.runtime.memory import free_memory


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """``work`` gets a folder for each run, as ``Finetune`` leaves it, and a page of all."""

    base: Base
    wanted: Sequence[Wanted]
    work: Path

    @property
    def jobs(self) -> list[Finetune]:
        return [
            Finetune(base=self.base, data=one.data, settings=one.settings, work=self.work / one.name)
            for one in self.wanted
        ]

    def execute(self, *, resume: bool = False) -> list[Result]:
        """Trains all; what the user may have got wrong is found before anything is written, in all runs at once.

        A run that fails leaves the others be: its result says why. Raises ``ConfigurationError``, ``InvalidBase``, and
        ``Interrupted`` behind checkpoints of all runs.
        """
        processes = Processes(num=1, device=device_kind())
        check_together(self.wanted, device=processes.device)
        jobs = self.jobs
        ready = self._ready(jobs, processes, resume=resume)
        base = self._base(jobs[0], processes.device)
        with contextlib.ExitStack() as claims, Board(sum(one.identity.schedule.num_steps for one in ready)) as board:
            members = []
            for job, own in zip(jobs, ready, strict=True):
                layout = Met(processes.device)
                claims.enter_context(job.folder.claimed(own.identity, processes, layout, resume=resume))
                members.append(self._member(job, own, base, layout, board))
            with Interruption(self.work) as interruption:
                train_together(base, members, interruption=interruption, resume=resume)
            free_memory()
            for job, own, member in zip(jobs, ready, members, strict=True):
                self._finish(job, own, member, processes)
        failures = [one.failure for one in members]
        results = [
            Result.of(job.work, one.varied, failure)
            for job, one, failure in zip(jobs, self.wanted, failures, strict=True)
        ]
        write(results, self.work, base=self.base.name)
        return results

    def _ready(self, jobs: Sequence[Finetune], processes: Processes, *, resume: bool) -> list[Ready]:
        found, problems = [], []
        for job in jobs:
            try:
                job.check_work(resume=resume)
                check_optimizer(job.settings, processes.device)
                ready = Ready.of(self.base, job.form, job.data, job.settings, job.settings.mesh(1), num_processes=1)
                job.folder.num_shared(ready.identity)
                found.append(ready)
            except (TrainingError, InvalidBase) as error:
                problems.append(f"run {job.name}: {error}")
        if problems:
            raise ConfigurationError("\n".join(["nothing is trained:", *problems]))
        return found

    def _base(self, job: Finetune, device: str) -> PreTrainedModel:
        """Frozen, checked, and as it is computed with; the runs' models are its twins."""
        settings = job.settings
        is_double = settings.bnb_4bit_use_double_quant
        base = load_base(self.base.path, job.form, device=own_device(device), double_quantization=is_double)
        attends = circumstances(settings, True, device)
        choose_attention(base, settings.attn_implementation, attends)
        check_handing_down(base, attends)
        recompute(base, str(settings.gradient_checkpointing))
        check_causal(base)
        check_packing(base)
        return base

    def _member(self, job: Finetune, ready: Ready, base: PreTrainedModel, layout: Met, board: Board) -> Member:
        seed = job.settings.seed
        model = ready.method.inject(twin(base), ready.base, seed=seed)
        compute_at_once(model)
        generator = torch.Generator().manual_seed(seed)
        run = job.run(model, ready, layout, generator=generator)
        told = run.listeners
        run.listeners = lambda step: [*told(step), board.of(job.name, start=step.number)]
        run.shows = False
        return Member(run=run, layout=layout, generator=generator)

    def _finish(self, job: Finetune, ready: Ready, member: Member, processes: Processes) -> None:
        """Behind all trainings: for its reference bitsandbytes lays the base's weights out anew."""
        if member.failure is None:
            try:
                job.write(member.run.step.model, ready, processes, is_sharded=False)
            except TrainingError as error:
                member.failure = error
