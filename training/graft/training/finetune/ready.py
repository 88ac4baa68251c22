"""What a fine-tuning is made of beside its base's weights: all that the user may have got wrong is found here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import AutoConfig, PreTrainedTokenizerFast

from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base
from graft.adapters.base.numbers import check_numbers
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.identity import identity
from graft.training.adapt.mesh import check_mesh
from graft.training.adapt.method import Method
from graft.training.adapt.methods.catalog import check_beside_rows, method_of, warn_of_unused
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.packing import Encoded
from graft.training.batch.supervised_rows import SupervisedRows
from graft.training.finetune.positions import beyond_positions
from graft.training.finetune.rows import read_examples
from graft.training.finetune.settings import FinetuneSettings
from graft.training.job.folder import Identity
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
    rows: list[Encoded]
    batches: SupervisedRows
    held_out: HeldOut | None
    identity: Identity

    @classmethod
    def of(
        cls, base: Base, form: ServingForm, data: Path, settings: FinetuneSettings, mesh: Mesh, *, num_processes: int
    ) -> Ready:
        """Raises ``ConfigurationError``, ``DataError``, ``InvalidBase``: one line says what to change."""
        check_report_to(settings)
        adaptable = Adaptable.of(base)
        method = method_of(settings)
        method.check(adaptable, form)
        warn_of_unused(method, settings)
        check_beside_rows(method, mesh, packing=settings.packing)
        config = AutoConfig.from_pretrained(base.path, local_files_only=True)
        check_mesh(config, settings, mesh, own=base.form, form=form, num_processes=num_processes)
        if said := beyond_positions(base.name, adaptable.num_positions, settings.max_length):
            _log.warning("%s", said)
        tokenizer = load_tokenizer(base.path)
        rows = _rows(data, tokenizer, adaptable, settings)
        batches = _batches(rows, tokenizer, settings, mesh)
        held_out = None
        if settings.validation is not None:
            held_out = _held_out(Path(settings.validation), rows, tokenizer, adaptable, settings)
        check_numbers(base.path, leftovers=adaptable.leftovers)
        schedule = schedule_of(settings, batches)
        own = identity(base, form, data, settings, schedule, dp=mesh.dp)
        own = replace(own, values={**own.values, **method.fixed(schedule.num_steps)})
        return cls(base=adaptable, method=method, rows=rows, batches=batches, held_out=held_out, identity=own)

    @property
    def mean_length(self) -> float:
        """Tokens of the row that a token stands in, on average."""
        lengths = [len(row.input_ids) for row in self.rows]
        return sum(length**2 for length in lengths) / sum(lengths)


def _rows(path: Path, tokenizer: PreTrainedTokenizerFast, base: Adaptable, settings: FinetuneSettings) -> list[Encoded]:
    stop_ids = base_files.stop_ids(base.path)
    encoder = RowEncoder(tokenizer, stop_ids=stop_ids, assistant_only=settings.assistant_only_loss)
    return read_examples(path, encoder, base, max_length=settings.max_length)


def _batches(
    rows: Sequence[Encoded], tokenizer: PreTrainedTokenizerFast, settings: FinetuneSettings, mesh: Mesh
) -> SupervisedRows:
    return SupervisedRows(
        rows=rows,
        rows_per_batch=settings.per_device_train_batch_size,
        batches_per_step=settings.gradient_accumulation_steps * mesh.dp,
        packing=settings.packing,
        pad_id=tokenizer.pad_token_id or 0,  # no padding is seen: any id will do
        seed=settings.seed,
    )


def _held_out(
    path: Path,
    learned: Sequence[Encoded],
    tokenizer: PreTrainedTokenizerFast,
    base: Adaptable,
    settings: FinetuneSettings,
) -> HeldOut:
    rows = _rows(path, tokenizer, base, settings)
    known = {tuple(row.input_ids) for row in learned}
    if num := sum(tuple(row.input_ids) in known for row in rows):
        _log.warning(
            "%d of %d rows of %s are trained on, too: what is measured on it flatters the adapter", num, len(rows), path
        )
    batches = SupervisedRows(
        rows=rows,
        rows_per_batch=settings.per_device_train_batch_size,
        batches_per_step=1,
        packing=settings.packing,
        pad_id=tokenizer.pad_token_id or 0,
        seed=settings.seed,
        is_shuffled=False,
    )
    return HeldOut(
        objective=CausalObjective(),
        batches=[batch for step in range(batches.steps_per_epoch) for batch in batches.batches(step)],
    )
