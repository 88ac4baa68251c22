"""What a training on a task is made of beside its base's weights: what the user may have got wrong is found here."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerFast

from graft.adapters.base.base import Base
from graft.adapters.base.numbers import check_numbers
from graft.training.adapt.identity import identity, measured_on
from graft.training.errors import DataError
from graft.training.job.folder import Identity
from graft.training.loop.optim import schedule_of
from graft.training.loop.telemetry import check_report_to
from graft.training.model.configuration import num_positions
from graft.training.model.loading import load_tokenizer
from graft.training.parallel.mesh import Mesh
from graft.training.tasks.checks import check, check_mesh, check_metric, decided, form_of
from graft.training.tasks.data import TaskData, TaskRows
from graft.training.tasks.framing.frame import Frame
from graft.training.tasks.kinds.catalog import KINDS
from graft.training.tasks.measured import TaskMeasure
from graft.training.tasks.model import TaskModel, config_of
from graft.training.tasks.rows.reading import read_rows
from graft.training.tasks.settings import LORA, TaskSettings
from graft.training.tasks.task import Setup, Task

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Checked, before the base is loaded."""

    settings: TaskSettings
    """With what is left to the base's kind decided."""
    task: Task
    model: TaskModel
    tokenizer: PreTrainedTokenizerFast
    """As it is saved with a model: it makes of texts the rows that were learned."""
    data: TaskData
    batches: TaskRows
    held_out: TaskMeasure | None
    identity: Identity

    @classmethod
    def of(cls, base: Base, data: Path, settings: TaskSettings, mesh: Mesh, *, num_processes: int) -> Self:
        """Raises ``ConfigurationError``, ``DataError``, ``InvalidBase``: one line says what to change."""
        check_report_to(settings)
        config = AutoConfig.from_pretrained(base.path, local_files_only=True)
        settings = decided(settings, config)
        check_mesh(config, settings, mesh, num_processes)
        check(base, config, settings)
        tokenizer = load_tokenizer(base.path)
        setup = setup_of(settings, config, tokenizer)
        kind = KINDS[settings.task]
        numbered = read_rows(data, kind.parse)
        task = kind.of(data, numbered, setup)
        check_metric(settings.metric_for_best_model, task.measures)
        task.head.check_fit(config, base.name)
        form = form_of(base, settings)
        model = TaskModel(
            base=base,
            config=config_of(base.path, task.head, pad_id=setup.frame.pad_id),
            head=task.head,
            settings=settings,
            form=form,
            num_tokens=len(tokenizer),
        )
        model.skeleton()
        if settings.method == LORA:
            model.targets()
        room, num_embeddings = num_positions(config), max(config.vocab_size, len(tokenizer))
        learned = TaskData.of(data, numbered, task, num_positions=room, num_embeddings=num_embeddings)
        if len(learned.kept) < len(numbered):
            _check_kept(data, kind.of(data, [numbered[row] for row in learned.kept], setup), task)
        held_out = None
        if settings.validation is not None:
            path = Path(settings.validation)
            rows = read_rows(path, kind.parse)
            measured = TaskData.of(path, rows, task, num_positions=room, num_embeddings=num_embeddings)
            _warn_of_shared(path, learned, measured)
            held_out = TaskMeasure(task=task, data=measured, rows_per_batch=settings.per_device_train_batch_size)
        check_numbers(base.path)
        batches = learned.batches(
            task,
            rows_per_batch=settings.per_device_train_batch_size,
            batches_per_step=settings.gradient_accumulation_steps * mesh.dp,
            seed=settings.seed,
        )
        own = identity(base, form, data, settings, schedule_of(settings, batches), dp=mesh.dp)
        return cls(
            settings=settings,
            task=task,
            model=model,
            tokenizer=tokenizer,
            data=learned,
            batches=batches,
            held_out=held_out,
            identity=replace(own, values={**own.values, **measured_on(settings)}),
        )


def setup_of(settings: TaskSettings, config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast) -> Setup:
    """Changes the tokenizer to make the rows that are learned. Raises ``ConfigurationError``."""
    frame = Frame.of(tokenizer, config)
    if settings.delimiter_tokens:
        frame = frame.delimited(tokenizer)
    frame.write_into(tokenizer)
    return Setup(settings=settings, config=config, tokenizer=tokenizer, frame=frame)


def _check_kept(data: Path, kept: Task, whole: Task) -> None:
    """Of the rows that are short enough: raises ``DataError`` where they have fewer labels than all of them."""
    if kept.head != whole.head:
        raise DataError(
            f"{data}: some label is left in no row, as those that have it are too long: raise max_length, or cut them "
            "with --long-rows cut."
        )


def _warn_of_shared(path: Path, learned: TaskData, measured: TaskData) -> None:
    known = {tuple(example.ids) for example in learned.examples}
    if num := sum(tuple(example.ids) in known for example in measured.examples):
        _log.warning(
            "%d of %d rows of %s are trained on, too: what is measured on it flatters the model",
            num,
            len(measured.examples),
            path,
        )
