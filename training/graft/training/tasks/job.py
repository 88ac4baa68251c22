"""From a base and rows to a model with a head, or to an adapter with one."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from graft.adapters.folder.record import TrainedRecord
from graft.training.adapt.made.written import lineage, whole_adapter
from graft.training.adapt.methods.through_peft import save_adapter
from graft.training.evaluation.metrics.choice import LOWER_IS_BETTER
from graft.training.job.export import make_readable, put_in_place, write_models
from graft.training.job.folder import DATA
from graft.training.job.lineage import code_version
from graft.training.job.on_base import OnBase
from graft.training.launch.processes import Processes
from graft.training.loop.best import Best
from graft.training.loop.checkpoint import Keeping
from graft.training.loop.guard import Guard
from graft.training.loop.optim import adamw
from graft.training.loop.progress import read_metrics
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.loop.telemetry import listeners
from graft.training.model.blocks import compile_blocks, recompute
from graft.training.model.loading import parts
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Layout
from graft.training.report.report import FILE as PAGE
from graft.training.report.report import leave
from graft.training.runtime.device import device_kind
from graft.training.runtime.memory import free_memory
from graft.training.tasks.checks import is_served
from graft.training.tasks.measured import PREFIX
from graft.training.tasks.model import DTYPES
from graft.training.tasks.ready import Ready
from graft.training.tasks.record import KEPT, TaskRecord
from graft.training.tasks.settings import LORA, TaskSettings
from graft.training.tasks.told import report

MODEL, ADAPTER = "model", "adapter"


@dataclass(frozen=True, kw_only=True)
class TrainTask(OnBase[TaskSettings]):
    """``work`` gets checkpoints, metrics and ``model/`` (Hugging Face's files, with the tokenizer) or ``adapter/``
    (PEFT's, with the head), each with ``task.json``.
    """

    data: Path

    def execute(self, processes: Processes | None = None, *, resume: bool = False) -> Path:
        """Trains and returns the folder of what came out; everything the user may have got wrong is found before
        anything is written. Every process calls this.

        Raises:
            DataError, ConfigurationError, CheckpointError, InvalidBase: one line says what to change.
        """
        processes = processes or Processes(num=1, device=device_kind())
        mesh = self.settings.mesh(processes.num)
        self.check_work(resume=resume)
        ready = Ready.of(self.base, self.data, self.settings, mesh, num_processes=processes.num)
        self.folder.num_shared(ready.identity)
        layout = processes.layout(mesh)
        model = self._model(ready, layout)
        with self.folder.claimed(ready.identity, processes, layout, resume=resume):
            torch.manual_seed(self.settings.seed + layout.share.index)  # each data-parallel process has its own dropout
            run = self._run(model, ready, layout)
            run.execute(resume=resume)
            run.step.finish()
            free_memory()
            return processes.by_first(lambda: self._write(model, ready, num_steps=run.step.number))

    def _model(self, ready: Ready, layout: Layout) -> nn.Module:
        settings = ready.settings
        model = ready.model.made(layout.device)
        dtype = torch.bfloat16 if settings.method == LORA else DTYPES[settings.dtype]
        circumstances = Circumstances(device=layout.device, dtype=dtype, reads_documents=False)
        choose_attention(model, settings.attn_implementation, circumstances)
        recompute(model, str(settings.gradient_checkpointing))
        if isinstance(layout, Distributed):
            layout.apply(model)
        if settings.torch_compile:
            compile_blocks(model, lengths_vary=True)
        return model

    def _run(self, model: nn.Module, ready: Ready, layout: Layout) -> Run:
        settings, schedule = ready.settings, ready.identity.schedule
        metric = settings.metric_for_best_model
        step = Step(
            model,
            objective=ready.task.objective,
            optimizers=adamw(weight_decay=settings.weight_decay, betas=(0.9, 0.999)),
            layout=layout,
            max_gradient_norm=settings.max_grad_norm,
        )
        return Run(
            step=step,
            data=ready.batches,
            schedule=schedule,
            learning_rate=settings.learning_rate,
            guard=Guard(sigmas=settings.spike_sigmas),
            folder=self.work,
            listeners=lambda step: listeners(self.work, settings, start=step.number),
            keeping=Keeping.of(settings),
            held_out=ready.held_out,
            best=Best.of(settings, measure=PREFIX + metric, prefers_higher=metric not in LOWER_IS_BETTER),
            held_out_steps=settings.eval_steps or ready.batches.steps_per_epoch,
            checkpoint_steps=settings.save_steps or ready.batches.steps_per_epoch,
            write_model=functools.partial(_write_adapter, layout=layout) if settings.method == LORA else None,
        )

    def _write(self, model: nn.Module, ready: Ready, *, num_steps: int) -> Path:
        record = self._record(ready, num_steps)
        made = self._put(model, ready, record)
        goes_to_servers = is_served(ready.settings, ready.model.config)
        page = functools.partial(report, made, record, ready.settings, self.base, is_served=goes_to_servers)
        leave(self.work / PAGE, lambda: page().write(self.work))
        return made

    def _put(self, model: nn.Module, ready: Ready, record: TaskRecord) -> Path:
        if ready.settings.method != LORA:
            put_in_place(self.work / MODEL, lambda folder: _fill_model(folder, model, ready, record))
            return self.work / MODEL
        whole = whole_adapter(model)
        put_in_place(self.work / ADAPTER, lambda folder: self._fill_adapter(folder, model, whole, ready, record))
        return self.work / ADAPTER

    def _fill_adapter(
        self, folder: Path, model: nn.Module, whole: Mapping[str, Tensor], ready: Ready, record: TaskRecord
    ) -> None:
        save_adapter(model, whole, folder)
        came_from = lineage("finetune", ready.identity, seed=self.settings.seed)
        TrainedRecord(base=self.base.identity, form=ready.model.form, lineage=came_from).write(folder)
        record.write(folder)

    def _record(self, ready: Ready, num_steps: int) -> TaskRecord:
        options, names = ready.task.head.options, vars(ready.settings)
        labels = options.get("id2label")
        return TaskRecord(
            settings={name: names[name] for name in KEPT},
            problem_type=options.get("problem_type"),
            labels=None if labels is None else tuple(labels.values()),
            base=self.base.name,
            base_digest=self.base.digest,
            data_digest=str(ready.identity.values[DATA]),
            job=f"finetune-{ready.identity.digest}",
            code_version=code_version(),
            metrics=measured_after(self.work, num_steps),
        )


def measured_after(work: Path, num_steps: int) -> dict[str, float]:
    """What was found on what is held out after so many steps, by the names of its measures."""
    rows = [row for row in read_metrics(work) if row["step"] + 1 == num_steps]
    return {name.removeprefix(PREFIX): value for row in rows for name, value in row.items() if name.startswith(PREFIX)}


def made_in(work: Path) -> Path:
    """The folder of what a finished training made."""
    return next(folder for folder in (work / MODEL, work / ADAPTER) if folder.is_dir())


def _fill_model(folder: Path, model: nn.Module, ready: Ready, record: TaskRecord) -> None:
    write_models(parts(model), ready.tokenizer, folder)
    record.write(folder)
    make_readable(folder)


def _write_adapter(model: nn.Module, folder: Path, *, layout: Layout) -> None:
    whole = whole_adapter(model)
    if layout.is_first:
        save_adapter(model, whole, folder)
