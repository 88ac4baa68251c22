"""From a base and preferences to an adapter in its folder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft.adapters.folder.record import TrainedRecord
from graft.training.adapt.adapted import adapted
from graft.training.adapt.adapting import Adapting
from graft.training.adapt.made.reference import recorded
from graft.training.adapt.made.told import Made
from graft.training.adapt.made.written import Written, folder_of, lineage, whole_adapter, write_checkpoint
from graft.training.adapt.methods.through_peft import PeftMethod
from graft.training.adapt.optimizers import check_optimizer, optimizers_of
from graft.training.adapt.speed import gauge_of
from graft.training.job.export import put_in_place
from graft.training.launch.processes import Processes
from graft.training.loop.checkpoint import Keeping
from graft.training.loop.guard import Guard
from graft.training.loop.held_out import HeldOut
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.loop.telemetry import listeners
from graft.training.model.blocks import compile_blocks
from graft.training.model.dropout import without_dropout
from graft.training.objective.packable import check_causal, check_packing
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Layout
from graft.training.preference.batches import PreferenceData
from graft.training.preference.learning import Preferences
from graft.training.preference.ready import Ready
from graft.training.preference.referring import references
from graft.training.preference.reward_model import States, reward_model
from graft.training.preference.settings import REWARD, AlignSettings
from graft.training.preference.told import report
from graft.training.report.report import FILE as PAGE
from graft.training.report.report import leave
from graft.training.runtime.device import device_kind
from graft.training.runtime.memory import free_memory


@dataclass(frozen=True, kw_only=True)
class Align(Adapting[AlignSettings]):
    """One training on preferences. ``work`` gets checkpoints, metrics and ``adapter/``."""

    data: Path

    @property
    def is_reward(self) -> bool:
        """Whether a reward model comes out, and no policy."""
        return self.settings.loss_type == REWARD

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
        model = self._model(ready, layout)
        with self.folder.claimed(ready.identity, processes, layout, resume=resume):
            learned, measured = self._referred(ready.learned, model, layout, learned=True), None
            if ready.held_out is not None:
                batches = self._referred(ready.held_out, model, layout, learned=False).data.in_order()
                measured = HeldOut(objective=ready.objective, batches=batches)
            torch.manual_seed(self.settings.seed + layout.share.index)  # each data-parallel process has its own dropout
            run = self.heard(self._run(model, ready, learned.data, measured, layout))
            run.execute(resume=resume)
            run.step.finish()
            free_memory()
            self._write(model, ready, processes, is_sharded=mesh.shards_weights)
        return self.work / folder_of(ready.method, ready.base)

    def _model(self, ready: Ready, layout: Layout) -> nn.Module:
        if self.is_reward:
            assert isinstance(ready.method, PeftMethod)
            model = reward_model(ready.base, self.form, ready.method, self.settings, layout)
        else:
            model = adapted(ready.base, self.form, ready.method, self.settings, layout)
        asked = States(model) if self.is_reward else model
        check_causal(asked)
        if self.settings.packing:
            check_packing(asked)
        if self.settings.disable_dropout:
            without_dropout(model)
        if isinstance(layout, Distributed):
            layout.rest(model)
        if self.settings.torch_compile:
            compile_blocks(model, lengths_vary=True)
        return model

    def _referred(self, rows: Preferences, model: nn.Module, layout: Layout, *, learned: bool) -> Preferences:
        if not self.settings.precomputes:
            return rows
        return rows.with_references(references(model, rows.data, layout, learned=learned))

    def _run(
        self, model: nn.Module, ready: Ready, data: PreferenceData[Any], held_out: HeldOut | None, layout: Layout
    ) -> Run:
        settings, schedule = self.settings, ready.identity.schedule
        gauge = gauge_of(self.base, model, length=ready.mean_length, device=layout.device, num_processes=layout.num)
        learning = ready.method.learning(model, schedule.num_steps)
        step = Step(
            model,
            objective=learning.objective(ready.objective),
            optimizers=optimizers_of(settings, learning.rate_of),
            layout=layout,
            max_gradient_norm=settings.max_grad_norm,
            companion=learning.companion,
        )
        return Run(
            step=step,
            data=data,
            schedule=schedule,
            learning_rate=settings.learning_rate,
            guard=Guard(sigmas=settings.spike_sigmas),
            folder=self.work,
            gauge=gauge,
            listeners=lambda step: listeners(self.work, settings, start=step.number),
            keeping=Keeping.of(settings),
            held_out=held_out,
            held_out_steps=settings.eval_steps or schedule.num_steps,
            checkpoint_steps=settings.save_steps or data.steps_per_epoch,
            write_model=functools.partial(write_checkpoint, ready.method, layout),
        )

    def _write(self, model: nn.Module, ready: Ready, processes: Processes, *, is_sharded: bool) -> None:
        record = TrainedRecord(
            base=self.base.identity,
            form=self.form,
            lineage=lineage("align", ready.identity, seed=self.settings.seed, job=self.job),
        )
        if self.is_reward:
            whole = whole_adapter(model)
            processes.by_first(
                lambda: put_in_place(self.work / "adapter", functools.partial(_fill, model, whole, ready, record))
            )
        else:
            answers = ready.learned.answers
            written = Written.into(self.work, ready.method, ready.base, record)
            written.write(model, lambda: recorded(model, answers, self.form), processes, is_sharded=is_sharded)
        made = Made(work=self.work, model=model, method=ready.method, base=ready.base, record=record)
        processes.by_first(lambda: leave(self.work / PAGE, lambda: report(made, ready, self.settings).write(self.work)))


def _fill(model: nn.Module, whole: Mapping[str, Tensor], ready: Ready, record: TrainedRecord, folder: Path) -> None:
    """Of a reward model: no server compares it with anything."""
    ready.method.save(model, whole, folder)
    record.write(folder)
