"""From a base and rows to an adapter in its folder."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from peft import LoraConfig, PeftModel, TaskType
from transformers import AutoConfig, PreTrainedTokenizerFast

from graft.adapters.adapter import Lineage
from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base
from graft.adapters.base.numbers import check_numbers
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.lora import inject, write_adapter
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.packing import Encoded
from graft.training.batch.supervised_rows import SupervisedRows
from graft.training.finetune.identity import identity
from graft.training.finetune.reference import write_reference
from graft.training.finetune.rows import read_examples
from graft.training.finetune.settings import FinetuneSettings
from graft.training.job.export import put_in_place
from graft.training.job.folder import DATA, Identity, JobFolder
from graft.training.job.lineage import code_version
from graft.training.launch.processes import Processes, device_kind
from graft.training.loop.checkpoint import complete_checkpoints, load_tensors
from graft.training.loop.guard import Guard
from graft.training.loop.optim import Schedule, adamw, schedule_of
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.loop.weights import Weights, bfloat16_form
from graft.training.model.loading import load_base, load_tokenizer
from graft.training.objective.causal import CausalObjective
from graft.training.objective.masks import check_packing
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Layout
from graft.training.parallel.mesh import Mesh


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """What a training consists of beside its base."""

    targets: tuple[str, ...]
    rows: list[Encoded]
    batches: SupervisedRows
    identity: Identity


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
        return replace(self, data=self.data.absolute(), work=self.work.absolute())

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
        ready = self._ready(mesh, processes.num)
        self.folder.num_shared(ready.identity)
        storage = torch.bfloat16 if mesh.shards_weights else torch.uint8
        model = self._adapted_model(ready.targets, storage=storage)
        if self.settings.packing:
            check_packing(model)
        layout = processes.layout(mesh)
        with self.folder.claimed(ready.identity, processes, layout, resume=resume):
            if isinstance(layout, Distributed):
                layout.apply(model)
            torch.manual_seed(self.settings.seed + layout.share.index)  # each data-parallel process has its own dropout
            self._run(model, ready.batches, ready.identity.schedule, layout).execute(resume=resume)
            if layout.is_first:  # the others need not wait for what it does alone
                self._write(model if layout.is_alone else self._whole_model(ready.targets), ready.rows, ready.identity)
        return self.work / "adapter"

    def _ready(self, mesh: Mesh, num_processes: int) -> _Ready:
        """Raises whatever the user may have got wrong, before the base is loaded."""
        base = Adaptable.of(self.base)
        targets = base.targets(self.settings.target_modules)
        self._check_mesh(mesh, num_processes)
        tokenizer = load_tokenizer(self.base.path)
        rows = self._rows(tokenizer, base)
        check_numbers(self.base.path, leftovers=base.leftovers)
        batches = self._batches(rows, tokenizer.pad_token_id or 0, mesh)  # no padding is seen: any id will do
        schedule = schedule_of(self.settings, batches)
        own = identity(self.base, self.form, self.data, self.settings, schedule, dp=mesh.dp)
        return _Ready(targets=targets, rows=rows, batches=batches, identity=own)

    def _check_mesh(self, mesh: Mesh, num_processes: int) -> None:
        """Raises ``ConfigurationError`` with every reason why this base cannot be adapted on such a mesh."""
        config = AutoConfig.from_pretrained(self.base.path, local_files_only=True)
        accumulated = self.settings.gradient_accumulation_steps * mesh.dp
        reasons = [
            f"{axis} cannot split a base with adapters on it; use dp_replicate and dp_shard"
            for axis in ("pp", "cp", "tp")
            if getattr(mesh, axis) > 1
        ]
        if mesh.shards_weights and self.base.form is not None:
            reasons.append(
                f"the folder's weights are {self.base.form} already, whose bytes cannot be sharded; take the plain "
                "base, dp_replicate or zero_stage 1"
            )
        elif mesh.shards_weights and self.form is ServingForm.LLM_INT8:
            reasons.append("LLM.int8 cannot be sharded; use load_in_4bit, dp_replicate or zero_stage 1")
        mesh.check(config, num_processes=num_processes, batches_per_step=accumulated, further=reasons)

    def _whole_model(self, targets: tuple[str, ...]) -> PeftModel:
        """The trained adapter on a base of this process alone, from the last checkpoint."""
        model = self._adapted_model(targets)
        weights = Weights(model)
        into = {f"master/{name}": master.detach() for name, master in weights.masters.items()}
        load_tensors(complete_checkpoints(self.work)[-1], into)
        weights.push(bfloat16_form)
        return model

    def _rows(self, tokenizer: PreTrainedTokenizerFast, base: Adaptable) -> list[Encoded]:
        stop_ids = base_files.stop_ids(self.base.path)
        encoder = RowEncoder(tokenizer, stop_ids=stop_ids, assistant_only=self.settings.assistant_only_loss)
        return read_examples(self.data, encoder, base, max_length=self.settings.max_length)

    def _adapted_model(self, targets: tuple[str, ...], *, storage: torch.dtype = torch.uint8) -> PeftModel:
        settings = self.settings
        model = load_base(self.base.path, self.form, storage=storage)
        torch.manual_seed(settings.seed)
        config = LoraConfig(
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=list(targets),
            use_rslora=settings.use_rslora,
            task_type=TaskType.CAUSAL_LM,
        )
        return inject(model, config, base_name=self.base.name)

    def _batches(self, rows: list[Encoded], pad_id: int, mesh: Mesh) -> SupervisedRows:
        settings = self.settings
        return SupervisedRows(
            rows=rows,
            rows_per_batch=settings.per_device_train_batch_size,
            batches_per_step=settings.gradient_accumulation_steps * mesh.dp,
            packing=settings.packing,
            pad_id=pad_id,
            seed=settings.seed,
        )

    def _run(self, model: PeftModel, data: SupervisedRows, schedule: Schedule, layout: Layout) -> Run:
        settings = self.settings
        step = Step(
            model,
            objective=CausalObjective(),
            optimizers=adamw(weight_decay=settings.weight_decay, betas=(0.9, 0.999)),
            layout=layout,
            max_gradient_norm=settings.max_grad_norm,
        )
        return Run(
            step=step,
            data=data,
            schedule=schedule,
            learning_rate=settings.learning_rate,
            guard=Guard(sigmas=settings.spike_sigmas),
            folder=self.work,
            checkpoint_steps=settings.save_steps or data.steps_per_epoch,
            write_model=functools.partial(write_adapter, layout=layout),
        )

    def _write(self, model: PeftModel, rows: list[Encoded], own: Identity) -> None:
        lineage = Lineage(
            job=f"finetune-{own.digest}",
            data_digest=own.values[DATA],
            code_version=code_version(),
            seed=self.settings.seed,
        )
        record = TrainedRecord(base=self.base.identity, form=self.form, lineage=lineage)

        def write(folder: Path) -> None:
            write_adapter(model, folder)
            write_reference(model, rows, self.form, folder)
            record.write(folder)

        put_in_place(self.work / "adapter", write)
