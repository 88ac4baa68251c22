"""From a base and rows to an adapter in its folder."""

import contextlib
import filecmp
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from peft import LoraConfig, PeftModel, TaskType
from torch import Tensor
from transformers import PreTrainedModel

from graft.adapters.adapter import Lineage
from graft.adapters.base.base import Base
from graft.adapters.base.hub_id import HubId
from graft.adapters.errors import InvalidAdapter
from graft.adapters.folder.record import TRAINED_FILE, TrainedRecord
from graft.adapters.folder.reference import FILE_NAME as REFERENCE_FILE
from graft.adapters.folder.reference import Reference
from graft.adapters.form import ServingForm
from graft.training.adapt.lora import inject, save_adapter, whole_adapter, write_adapter
from graft.training.finetune.parts import STORAGE, BaseInParts
from graft.training.finetune.ready import Ready
from graft.training.finetune.reference import recorded
from graft.training.finetune.settings import FinetuneSettings
from graft.training.finetune.speed import gauge_of
from graft.training.job.export import behind_it, put_in_place
from graft.training.job.folder import DATA, JobFolder
from graft.training.job.lineage import code_version
from graft.training.launch.processes import Processes
from graft.training.loop.checkpoint import Keeping
from graft.training.loop.guard import Guard
from graft.training.loop.optim import adamw
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.loop.telemetry import listeners
from graft.training.model.blocks import compile_blocks, recompute
from graft.training.model.loading import CPU, load_base
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.objective.causal import CausalObjective
from graft.training.objective.packable import check_causal, check_packing
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Layout
from graft.training.runtime.device import device_kind, own_device
from graft.training.runtime.memory import free_memory

_log = logging.getLogger(__name__)


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
        model = self._model(ready.targets, layout)
        check_causal(model)
        if self.settings.packing:
            check_packing(model)
        if isinstance(layout, Distributed):
            layout.rest(model)
        if self.settings.torch_compile:
            compile_blocks(model, lengths_vary=True)
        with self.folder.claimed(ready.identity, processes, layout, resume=resume):
            torch.manual_seed(self.settings.seed + layout.share.index)  # each data-parallel process has its own dropout
            run = self._run(model, ready, layout)
            run.execute(resume=resume)
            run.step.finish()
            free_memory()
            self._write(model, ready, processes, is_sharded=mesh.shards_weights)
        return self.work / "adapter"

    def _model(self, targets: tuple[str, ...], layout: Layout) -> PeftModel:
        """The base with new adapters, where it is computed with; of a sharded one each process has its parts."""
        is_sharded = isinstance(layout, Distributed) and layout.mesh.shards_weights
        in_parts = BaseInParts.of(self.base.path, self.form) if is_sharded else None
        inject_here = functools.partial(self._inject, targets)
        if in_parts is not None:
            model = in_parts.adapted(inject_here)
        elif is_sharded:  # FSDP takes shards to their device block by block
            _log.warning("the base cannot be read in parts: each process makes all of it first, in the host's memory")
            model = inject_here(load_base(self.base.path, self.form, storage=STORAGE, device=CPU))
        else:
            model = inject_here(load_base(self.base.path, self.form, device=own_device(layout.device)))
        attends = Circumstances(device=layout.device, dtype=torch.bfloat16)
        choose_attention(model, self.settings.attn_implementation, attends)
        recompute(model, str(self.settings.gradient_checkpointing))
        if isinstance(layout, Distributed):
            layout.apply(model)
        if in_parts is not None:
            in_parts.fill(model, own_device(layout.device))
        return model

    def _inject(self, targets: tuple[str, ...], base: PreTrainedModel) -> PeftModel:
        settings, on_hub = self.settings, HubId.of_folder(self.base.path)
        torch.manual_seed(settings.seed)
        config = LoraConfig(
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=list(targets),
            use_rslora=settings.use_rslora,
            task_type=TaskType.CAUSAL_LM,
            revision=None if on_hub is None else on_hub.revision,
        )
        return inject(base, config, base_name=self.base.name)

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

    def _write(self, model: PeftModel, ready: Ready, processes: Processes, *, is_sharded: bool) -> None:
        """The adapter first, and then its reference, for which the base is computed with: with sharded weights by all
        processes together. An adapter that is there already, with its reference, stays. Every process calls this, and
        stays until the first has written: a launcher ends those that are left when some have gone.
        """
        target, whole = self.work / "adapter", whole_adapter(model)

        def put(reference: Reference | None = None) -> bool:
            put_in_place(target, lambda folder: self._fill(folder, model, whole, ready, reference))
            return (target / REFERENCE_FILE).exists()

        def record() -> Reference:
            with behind_it(target, what="its reference.json", remedy="repeat that with --resume where there is more"):
                found: Reference = recorded(model, ready.rows, self.form)
            return found

        if processes.by_first(put):
            return
        reference = record() if is_sharded else None
        processes.by_first(lambda: put(reference or record()))

    def _fill(
        self, folder: Path, model: PeftModel, whole: Mapping[str, Tensor], ready: Ready, reference: Reference | None
    ) -> None:
        lineage = Lineage(
            job=f"finetune-{ready.identity.digest}",
            data_digest=ready.identity.values[DATA],
            code_version=code_version(),
            seed=self.settings.seed,
        )
        save_adapter(model, whole, folder)
        TrainedRecord(base=self.base.identity, form=self.form, lineage=lineage).write(folder)
        reference = reference or _reference_of_the_same(self.work / "adapter", folder)
        if reference is not None:
            reference.write(folder)


def _reference_of_the_same(there: Path, folder: Path) -> Reference | None:
    """What was measured of the very adapter that is in a folder, where it lies ``there`` already."""
    names = ["adapter_config.json", "adapter_model.safetensors", TRAINED_FILE]
    same, _, _ = filecmp.cmpfiles(there, folder, names, shallow=False)
    with contextlib.suppress(InvalidAdapter):
        return Reference.read(there) if same == names else None
    return None
