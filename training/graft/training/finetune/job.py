"""From a base and rows to an adapter in its folder."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from peft import LoraConfig, PeftModel, TaskType

from graft.adapters.adapter import Lineage
from graft.adapters.base.base import Base
from graft.adapters.base.hub_id import HubId
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.training.adapt.lora import inject, write_adapter
from graft.training.finetune.ready import Ready
from graft.training.finetune.reference import write_reference
from graft.training.finetune.settings import FinetuneSettings
from graft.training.finetune.speed import gauge_of
from graft.training.job.export import put_in_place
from graft.training.job.folder import DATA, JobFolder
from graft.training.job.lineage import code_version
from graft.training.launch.processes import Processes
from graft.training.loop.checkpoint import Keeping, complete_checkpoints, load_tensors
from graft.training.loop.guard import Guard
from graft.training.loop.optim import adamw
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.loop.telemetry import listeners
from graft.training.loop.weights import Weights, bfloat16_form
from graft.training.model.blocks import compile_blocks, recompute
from graft.training.model.loading import CPU, load_base
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.objective.causal import CausalObjective
from graft.training.objective.packable import check_causal, check_packing
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Layout
from graft.training.runtime.device import device_kind, own_device


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """One QLoRA training (Dettmers et al. 2023, arXiv:2305.14314). ``work`` gets checkpoints, metrics and
    ``adapter/``.
    """

    base: Base
    data: Path
    settings: FinetuneSettings
    work: Path

    @property
    def form(self) -> ServingForm:
        """The folder's own form where ``graft quantize`` made it."""
        if self.base.form is not None:
            return self.base.form
        if self.settings.load_in_8bit:
            return ServingForm.LLM_INT8
        return ServingForm.NF4 if self.settings.load_in_4bit else ServingForm.BF16

    @property
    def name(self) -> str:
        return self.work.name

    @property
    def folder(self) -> JobFolder:
        return JobFolder(path=self.work, flag="--output")

    def absolute(self) -> Self:
        validation = self.settings.validation
        settings = replace(self.settings, validation=validation and str(Path(validation).absolute()))
        return replace(self, data=self.data.absolute(), settings=settings, work=self.work.absolute())

    def check_work(self, *, resume: bool) -> None:
        self.folder.check(resume=resume)

    def execute(self, processes: Processes | None = None, *, resume: bool = False) -> Path:
        """Trains and returns the adapter's folder; everything the user may have got wrong is found before anything is
        written. Every process calls this.

        Raises:
            DataError, ConfigurationError, CheckpointError, InvalidBase: one line says what to change.
        """
        processes = processes or Processes(num=1, device=device_kind())
        mesh = self.settings.mesh(processes.num)
        self.check_work(resume=resume)
        ready = Ready.of(self.base, self.form, self.data, self.settings, mesh, num_processes=processes.num)
        self.folder.num_shared(ready.identity)
        layout = processes.layout(mesh)
        # FSDP takes shards to their device block by block; what is whole lies there from the beginning.
        model = (
            self._adapted_model(ready.targets, storage=torch.bfloat16)
            if mesh.shards_weights
            else self._adapted_model(ready.targets, device=own_device(layout.device))
        )
        choose_attention(
            model, self.settings.attn_implementation, Circumstances(device=layout.device, dtype=torch.bfloat16)
        )
        check_causal(model)
        if self.settings.packing:
            check_packing(model)
        with self.folder.claimed(ready.identity, processes, layout, resume=resume):
            self._lay_out(model, layout)
            torch.manual_seed(self.settings.seed + layout.share.index)  # each data-parallel process has its own dropout
            self._run(model, ready, layout).execute(resume=resume)
            if layout.is_first:  # the others need not wait for what it does alone
                self._write(model if layout.is_alone else self._whole_model(ready.targets, layout), ready)
        return self.work / "adapter"

    def _lay_out(self, model: PeftModel, layout: Layout) -> None:
        recompute(model, str(self.settings.gradient_checkpointing))
        if isinstance(layout, Distributed):
            layout.apply(model)
        if self.settings.torch_compile:
            compile_blocks(model)

    def _whole_model(self, targets: tuple[str, ...], layout: Layout) -> PeftModel:
        """The trained adapter on a base of this process alone, from the last checkpoint."""
        model = self._adapted_model(targets, device=own_device(layout.device))
        weights = Weights(model)
        into = {f"master/{name}": master.detach() for name, master in weights.masters.items()}
        load_tensors(complete_checkpoints(self.work)[-1], into)
        weights.push(bfloat16_form)
        return model

    def _adapted_model(
        self, targets: tuple[str, ...], *, storage: torch.dtype = torch.uint8, device: torch.device = CPU
    ) -> PeftModel:
        settings = self.settings
        model = load_base(self.base.path, self.form, storage=storage, device=device)
        torch.manual_seed(settings.seed)
        on_hub = HubId.of_folder(self.base.path)
        config = LoraConfig(
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=list(targets),
            use_rslora=settings.use_rslora,
            task_type=TaskType.CAUSAL_LM,
            revision=None if on_hub is None else on_hub.revision,
        )
        return inject(model, config, base_name=self.base.name)

    def _run(self, model: PeftModel, ready: Ready, layout: Layout) -> Run:
        settings, schedule = self.settings, ready.identity.schedule
        gauge = gauge_of(self.base, model, length=ready.mean_length, device=layout.device, num_processes=layout.num)
        step = Step(
            model,
            objective=CausalObjective(),
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
            gauge=gauge,
            listeners=lambda step: listeners(self.work, settings, start=step.number),
            keeping=Keeping.of(settings),
            held_out=ready.held_out,
            held_out_steps=settings.eval_steps or schedule.num_steps,
            checkpoint_steps=settings.save_steps or ready.batches.steps_per_epoch,
            write_model=functools.partial(write_adapter, layout=layout),
        )

    def _write(self, model: PeftModel, ready: Ready) -> None:
        lineage = Lineage(
            job=f"finetune-{ready.identity.digest}",
            data_digest=ready.identity.values[DATA],
            code_version=code_version(),
            seed=self.settings.seed,
        )
        record = TrainedRecord(base=self.base.identity, form=self.form, lineage=lineage)

        def write(folder: Path) -> None:
            write_adapter(model, folder)
            write_reference(model, ready.rows, self.form, folder)
            record.write(folder)

        put_in_place(self.work / "adapter", write)
