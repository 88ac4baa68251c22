"""What a fine-tuning is made of beside its base's weights: all that the user may have got wrong is found here."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import AutoConfig

from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base
from graft.adapters.base.numbers import check_numbers
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.identity import identity, measured_on
from graft.training.adapt.mesh import check_mesh
from graft.training.adapt.method import Method
from graft.training.adapt.methods.catalog import check_beside_rows, method_of, warn_of_unused
from graft.training.adapt.teacher import Teacher
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.packing import Encoded
from graft.training.batch.supervised_rows import SupervisedRows
from graft.training.errors import ConfigurationError
from graft.training.finetune.choices import LAST
from graft.training.finetune.data import Learning
from graft.training.finetune.positions import beyond_positions, longest_row
from graft.training.finetune.rows import LearnedFile, RowReader
from graft.training.finetune.settings import FinetuneSettings
from graft.training.job.folder import Identity
from graft.training.job.sources import Sources
from graft.training.loop.held_out import HeldOut
from graft.training.loop.optim import schedule_of
from graft.training.loop.telemetry import check_report_to
from graft.training.model.loading import load_tokenizer
from graft.training.objective.causal import CausalObjective
from graft.training.parallel.mesh import Mesh

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Checked, before the base is loaded."""

    base: Adaptable
    method: Method
    learning: Learning
    measured: list[Encoded]
    """Rows that are held out, by a file of their own or from what is learned."""
    batches: SupervisedRows
    held_out: HeldOut | None
    teacher: Teacher | None
    identity: Identity

    @classmethod
    def of(
        cls,
        base: Base,
        form: ServingForm,
        data: Path | Sources,
        settings: FinetuneSettings,
        mesh: Mesh,
        *,
        num_processes: int,
    ) -> Ready:
        """Raises ``ConfigurationError``, ``DataError``, ``InvalidBase``: one line says what to change."""
        check_report_to(settings)
        adaptable = Adaptable.of(base)
        method = method_of(settings)
        method.check(adaptable, form)
        warn_of_unused(method, settings)
        check_beside_rows(method, mesh, packing=settings.packs)
        config = AutoConfig.from_pretrained(base.path, local_files_only=True)
        check_mesh(config, settings, mesh, own=base.form, form=form, num_processes=num_processes)
        room = None if adaptable.num_positions is None else adaptable.num_positions - method.num_ahead
        reader = reader_of(replace(adaptable, num_positions=room), settings)
        if said := beyond_positions(base.name, room, reader.max_length):
            _log.warning("%s", said)
        learning = Learning.read(Sources.of(data), reader, split=settings.validation_split or 0.0, seed=settings.seed)
        rows, pad_id = learning.examples, load_tokenizer(base.path).pad_token_id or 0  # no padding is seen
        batches = _batches(learning, pad_id, reader.max_length, settings, mesh)
        if settings.eval_steps is not None and not settings.holds_out:
            _log.warning("eval_steps has no effect: nothing is held out; add --validation FILE or --validation-split")
        measured = _measured(learning, reader, settings)
        held_out = _held_out(measured, pad_id, settings) if settings.holds_out else None
        check_numbers(base.path, leftovers=adaptable.leftovers)
        schedule = schedule_of(settings, batches)
        own = identity(base, form, data, settings, schedule, dp=mesh.dp)
        teacher = None if settings.teacher is None else Teacher.of(settings.teacher)
        taught = {} if teacher is None else {"teacher": teacher.digest}
        if teacher is not None:
            teacher.check(base, longest=max(len(row.input_ids) for row in rows))
        own = replace(own, values={**own.values, **method.fixed(schedule.num_steps), **taught, **measured_on(settings)})
        return cls(
            base=adaptable,
            method=method,
            learning=learning,
            measured=measured,
            batches=batches,
            held_out=held_out,
            teacher=teacher,
            identity=own,
        )

    @property
    def rows(self) -> list[Encoded]:
        """What is learned."""
        return self.learning.examples

    @property
    def mean_length(self) -> float:
        """Tokens of the row that a token stands in, on average."""
        lengths = [len(row.input_ids) for row in self.rows]
        return sum(length**2 for length in lengths) / sum(lengths)


def reader_of(base: Adaptable, settings: FinetuneSettings) -> RowReader:
    """Raises ``ConfigurationError`` where the base's tokenizer is of no use."""
    encoder = RowEncoder(
        load_tokenizer(base.path),
        stop_ids=base_files.stop_ids(base.path),
        assistant_only=settings.assistant_only_loss,
        last_only=settings.train_on_turns == LAST,
    )
    return RowReader(
        encoder=encoder,
        base=base,
        max_length=longest_row(settings.max_length, base.num_positions),
        long_rows=settings.long_rows,
        columns=settings.renamed,
    )


def _batches(
    learning: Learning, pad_id: int, max_length: int, settings: FinetuneSettings, mesh: Mesh
) -> SupervisedRows:
    """Raises ``ConfigurationError`` where a row alone is more than the tokens of a batch."""
    longest = max(len(one.input_ids) for one in learning.examples)
    if settings.max_tokens_per_batch is not None and settings.max_tokens_per_batch < longest:
        raise ConfigurationError(
            f"setting 'max_tokens_per_batch' has the value {settings.max_tokens_per_batch}, and the longest row has "
            f"{longest} tokens: raise it, or lower max_length."
        )
    return SupervisedRows(
        rows=learning.examples,
        rows_per_batch=settings.per_device_train_batch_size,
        batches_per_step=settings.gradient_accumulation_steps * mesh.dp,
        packing=settings.packs,
        pad_id=pad_id,
        seed=settings.seed,
        mixture=learning.mixture,
        max_tokens=settings.max_tokens_per_batch,
        line_tokens=max_length,
    )


def _measured(learning: Learning, reader: RowReader, settings: FinetuneSettings) -> list[Encoded]:
    """Raises ``DataError``."""
    rows, path = learning.held_out, settings.validation
    if path is not None:
        rows = LearnedFile.read(Path(path), reader).examples()
    known = {tuple(row.input_ids) for row in learning.examples}
    if num := sum(tuple(row.input_ids) in known for row in rows):
        _log.warning(
            "%d of %d rows of %s are trained on, too: what is measured on it flatters the adapter", num, len(rows), path
        )
    return rows


def _held_out(rows: list[Encoded], pad_id: int, settings: FinetuneSettings) -> HeldOut:
    batches = SupervisedRows(
        rows=rows,
        rows_per_batch=settings.per_device_train_batch_size,
        batches_per_step=1,
        packing=settings.packs,
        pad_id=pad_id,
        seed=settings.seed,
        is_shuffled=False,
    )
    return HeldOut(
        objective=CausalObjective(),
        batches=[batch for step in range(batches.steps_per_epoch) for batch in batches.batches(step)],
    )
