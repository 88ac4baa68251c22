"""From a base and rows to an adapter in its folder."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from graft.adapters.base import Base
from graft.adapters.form import ServingForm
from graft.adapters.graft_json import TrainedRecord
from graft.training import lineage
from graft.training.adapt.inject import Lora, inject, write_adapter
from graft.training.adapt.loading import load_base, load_tokenizer
from graft.training.checkpoint import complete_checkpoints, forget_checkpoints
from graft.training.corpus.encoding import encode_row
from graft.training.corpus.packing import Encoded
from graft.training.corpus.rows import bad_rows, numbered_lines, read_rows
from graft.training.corpus.supervised_rows import SupervisedRows
from graft.training.errors import CheckpointError
from graft.training.export import put_in_place
from graft.training.finetune_settings import FinetuneSettings
from graft.training.objective.causal import CausalObjective
from graft.training.optim import Schedule, adamw
from graft.training.reference import write_reference
from graft.training.run import Run

JOB = "job"


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """One QLoRA training (Dettmers et al. 2023, arXiv:2305.14314). ``folder`` gets checkpoints, metrics and
    ``adapter/``.
    """

    base: Base
    data: Path
    settings: FinetuneSettings
    folder: Path

    @property
    def form(self) -> ServingForm:
        """The folder's own form where ``graft quantize`` made it."""
        if self.base.form is not None:
            return self.base.form
        if self.settings.load_in_8bit:
            return ServingForm.LLM_INT8
        return ServingForm.NF4 if self.settings.load_in_4bit else ServingForm.BF16

    def execute(self, *, resume: bool = False) -> Path:
        """Trains and returns the adapter's folder; everything the user may have got wrong is found before anything is
        written.

        Raises:
            DataError, ConfigurationError, CheckpointError: one line says what to change.
        """
        tokenizer = load_tokenizer(self.base.path)
        rows = self._encode(tokenizer)
        digest = lineage.data_digest(self.data)
        job = lineage.job_id(self.base, self.form, digest, self.settings)
        model = self._adapted_model()
        self._claim_folder(job, resume)
        run = self._run(model, rows, tokenizer.pad_token_id)
        run.execute(resume=resume)
        record = TrainedRecord(
            base=self.base.reference(), form=self.form, lineage=lineage.lineage(job, digest, self.settings)
        )
        return self._write(model, rows, record)

    def _encode(self, tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
        only_answers = self.settings.assistant_only_loss
        rows = [encode_row(row, tokenizer, assistant_only=only_answers) for row in read_rows(self.data)]
        limit = self.settings.max_length
        numbers = [number for number, _ in numbered_lines(self.data)]
        too_long = [
            (number, f"{len(row.input_ids)} tokens, max_length is {limit}; shorten the row or raise max_length.")
            for number, row in zip(numbers, rows, strict=True)
            if len(row.input_ids) > limit
        ]
        if too_long:
            raise bad_rows(self.data, too_long)
        return rows

    def _adapted_model(self) -> PeftModel:
        settings = self.settings
        model = load_base(self.base.path, self.form)
        torch.manual_seed(settings.seed)
        lora = Lora(
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=settings.target_modules,
            use_rslora=settings.use_rslora,
        )
        return inject(model, lora, base_name=self.base.name)

    def _claim_folder(self, job: str, resume: bool) -> None:
        """Checkpoints of another training in the folder must not be continued; without ``resume`` they are removed."""
        marker = self.folder / JOB
        if resume and complete_checkpoints(self.folder):
            found = marker.read_text(encoding="utf-8") if marker.exists() else "unknown"
            if found != job:
                raise CheckpointError(
                    f"{self.folder} holds checkpoints of {found}, this is {job}: base, data or settings changed. "
                    "Start without --resume."
                )
        else:
            forget_checkpoints(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(job, encoding="utf-8")

    def _run(self, model: PeftModel, rows: list[Encoded], pad_id: int) -> Run:
        settings = self.settings
        data = SupervisedRows(
            rows=rows,
            rows_per_batch=settings.per_device_train_batch_size,
            batches_per_step=settings.gradient_accumulation_steps,
            packing=settings.packing,
            pad_id=pad_id,
            seed=settings.seed,
        )
        num_steps = settings.max_steps or max(1, math.ceil(data.steps_per_epoch * settings.num_train_epochs))
        schedule = Schedule(
            num_steps=num_steps,
            warmup_steps=math.ceil(num_steps * settings.warmup_ratio),
            shape=settings.lr_scheduler_type,
        )
        return Run(
            model=model,
            data=data,
            objective=CausalObjective(),
            optimizers=adamw(settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.999)),
            schedule=schedule,
            folder=self.folder,
            max_gradient_norm=settings.max_grad_norm,
            checkpoint_steps=settings.save_steps or data.steps_per_epoch,
            write_model=write_adapter,
        )

    def _write(self, model: PeftModel, rows: list[Encoded], record: TrainedRecord) -> Path:
        def write(folder: Path) -> None:
            write_adapter(model, folder)
            write_reference(model, rows, self.form, folder)
            record.write(folder)

        target = self.folder / "adapter"
        put_in_place(target, write)
        return target
