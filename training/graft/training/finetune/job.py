"""From a base and rows to an adapter in its folder."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import nn

from graft.adapters.folder.record import TrainedRecord
from graft.training.adapt.adapted import adapted
from graft.training.adapt.adapting import Adapting
from graft.training.adapt.attending import goes_by_documents
from graft.training.adapt.made.reference import recorded
from graft.training.adapt.made.told import Made
from graft.training.adapt.made.written import Written, folder_of, lineage, write_checkpoint
from graft.training.adapt.optimizers import check_optimizer, optimizers_of
from graft.training.adapt.speed import gauge_of
from graft.training.adapt.teacher import absolute_reference
from graft.training.finetune.following import objective_of
from graft.training.finetune.ready import Ready
from graft.training.finetune.settings import FinetuneSettings
from graft.training.finetune.told import report
from graft.training.job.sources import Sources
from graft.training.launch.processes import Processes
from graft.training.loop.best import Best
from graft.training.loop.checkpoint import Keeping
from graft.training.loop.guard import Guard
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.loop.telemetry import listeners
from graft.training.model.blocks import compile_blocks
from graft.training.objective.causal import CausalObjective
from graft.training.objective.packable import check_causal, check_packing
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Layout
from graft.training.report.report import FILE as PAGE
from graft.training.report.report import leave
from graft.training.runtime.device import device_kind
from graft.training.runtime.memory import free_memory
from graft.training.settings.ending import ends_by_measure


@dataclass(frozen=True, kw_only=True)
class Finetune(Adapting[FinetuneSettings]):
    """One supervised training of a method on a base (QLoRA: Dettmers et al. 2023, arXiv:2305.14314). ``work`` gets
    checkpoints, metrics and ``adapter/``, or ``base/`` where the base's own weights were trained.
    """

    data: Path | Sources

    def absolute(self) -> Self:
        teacher = self.settings.teacher
        found = super().absolute()
        return replace(found, settings=replace(found.settings, teacher=teacher and absolute_reference(teacher)))

    def execute(self, processes: Processes | None = None, *, resume: bool = False) -> Path:
        """Trains and returns the adapter's folder; everything the user may have got wrong is found before anything is
        written. Every process calls this.

        Raises:
            DataError, ConfigurationError, CheckpointError, InvalidBase: one line says what to change.
        """
        processes = processes or Processes(num=1, device=device_kind())
        mesh = self.settings.mesh(processes.num)
        self.check_work(resume=resume)
        check_optimizer(self.settings, processes.device)
        ready = Ready.of(self.base, self.form, self.data, self.settings, mesh, num_processes=processes.num)
        self.folder.num_shared(ready.identity)
        layout = processes.layout(mesh)
        model = adapted(ready.base, self.form, ready.method, self.settings, layout)
        check_causal(model)
        if self.settings.packs:
            check_packing(model)
        if isinstance(layout, Distributed):
            layout.rest(model)
        if self.settings.torch_compile:
            compile_blocks(model, lengths_vary=True)
        with self.folder.claimed(ready.identity, processes, layout, resume=resume):
            torch.manual_seed(self.settings.seed + layout.share.index)  # each data-parallel process has its own dropout
            run = self.heard(self.run(model, ready, layout))
            run.execute(resume=resume)
            run.step.finish()
            free_memory()
            self.write(model, ready, processes, is_sharded=mesh.shards_weights)
        return self.work / folder_of(ready.method, ready.base)

    def run(self, model: nn.Module, ready: Ready, layout: Layout, *, generator: torch.Generator | None = None) -> Run:
        """Of what the method made of the base; ``generator`` is what it draws from, if not torch's own."""
        settings, schedule = self.settings, ready.identity.schedule
        gauge = gauge_of(self.base, model, length=ready.mean_length, device=layout.device, num_processes=layout.num)
        learning = ready.method.learning(model, schedule.num_steps)
        plain = CausalObjective(
            label_smoothing=settings.label_smoothing_factor, neftune_noise_alpha=settings.neftune_noise_alpha or 0.0
        )
        objective = objective_of(ready.teacher, settings, device=layout.device, packing=settings.packs, plain=plain)
        step = Step(
            model,
            objective=learning.objective(objective),
            optimizers=optimizers_of(settings, learning.rate_of),
            layout=layout,
            max_gradient_norm=settings.max_grad_norm,
            generator=generator,
            companion=learning.companion,
        )
        return Run(
            step=step,
            data=replace(ready.batches, has_one_line=goes_by_documents(model, layout.device)),
            schedule=schedule,
            learning_rate=settings.learning_rate,
            guard=Guard(sigmas=settings.spike_sigmas),
            folder=self.work,
            gauge=gauge,
            listeners=lambda step: listeners(self.work, settings, start=step.number),
            keeping=Keeping.of(settings),
            held_out=ready.held_out,
            best=Best.of(settings),
            held_out_steps=settings.eval_steps
            or (ready.batches.steps_per_epoch if ends_by_measure(settings) else schedule.num_steps),
            checkpoint_steps=settings.save_steps or ready.batches.steps_per_epoch,
            write_model=functools.partial(write_checkpoint, ready.method, layout),
        )

    def write(self, model: nn.Module, ready: Ready, processes: Processes, *, is_sharded: bool) -> None:
        """What the run made of the model, and the page about it."""
        record = TrainedRecord(
            base=self.base.identity,
            form=self.form,
            lineage=lineage("finetune", ready.identity, seed=self.settings.seed, job=self.job),
        )
        written = Written.into(self.work, ready.method, ready.base, record)
        written.write(model, lambda: recorded(model, ready.rows, self.form), processes, is_sharded=is_sharded)
        made = Made(work=self.work, model=model, method=ready.method, base=ready.base, record=record)
        processes.by_first(lambda: leave(self.work / PAGE, lambda: report(made, ready, self.settings).write(self.work)))
