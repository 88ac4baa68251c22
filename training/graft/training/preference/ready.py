"""What a training on preferences is made of beside its base's weights: all that the user may have got wrong is found
here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig

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
from graft.training.batch.epochs import Epochs
from graft.training.errors import ConfigurationError
from graft.training.finetune.positions import beyond_positions, longest_row
from graft.training.finetune.rows import RowReader
from graft.training.job.folder import Identity
from graft.training.loop.optim import schedule_of
from graft.training.loop.telemetry import check_report_to
from graft.training.model.loading import load_tokenizer
from graft.training.objective.objective import Objective
from graft.training.parallel.mesh import Mesh
from graft.training.preference.learning import Preferences, answers_of, laid, objective_of, read
from graft.training.preference.reward_model import config_of
from graft.training.preference.settings import REWARD, AlignSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Checked, before the base is loaded."""

    base: Adaptable
    method: Method
    objective: Objective[Any]
    learned: Preferences
    held_out: Preferences | None
    identity: Identity

    @classmethod
    def of(
        cls, base: Base, form: ServingForm, data: Path, settings: AlignSettings, mesh: Mesh, *, num_processes: int
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
        if settings.loss_type == REWARD:
            config_of(adaptable)
            if mesh.shards_weights:
                raise ConfigurationError(
                    "a reward model's weights cannot be sharded: take dp_replicate, or zero_stage 1."
                )
        longest = longest_row(settings.max_length, adaptable.num_positions)
        if said := beyond_positions(base.name, adaptable.num_positions, longest):
            _log.warning("%s", said)
        learned = _preferences(
            data, adaptable, settings, batches_per_step=settings.gradient_accumulation_steps * mesh.dp
        )
        held_out = None
        if settings.validation is not None:
            path = Path(settings.validation)
            held_out = _preferences(path, adaptable, settings, batches_per_step=1, is_shuffled=False)
            _warn_of_shared(path, learned, held_out)
        check_numbers(base.path, leftovers=adaptable.leftovers)
        schedule = schedule_of(settings, learned.data)
        own = identity(base, form, data, settings, schedule, dp=mesh.dp)
        # A default that follows the schedule decides the rounding of what is learned.
        more = {"precompute_ref_log_probs": str(settings.precomputes), **method.fixed(schedule.num_steps)}
        own = replace(own, values={**own.values, **more})
        return cls(
            base=adaptable,
            method=method,
            objective=objective_of(settings),
            learned=learned,
            held_out=held_out,
            identity=own,
        )

    @property
    def mean_length(self) -> float:
        """Tokens of the answer and its prompt that a token stands in, on average."""
        lengths = [len(one.input_ids) for one in self.learned.answers]
        return sum(length**2 for length in lengths) / sum(lengths)


def _preferences(
    path: Path, base: Adaptable, settings: AlignSettings, *, batches_per_step: int, is_shuffled: bool = True
) -> Preferences:
    tokenizer = load_tokenizer(base.path)
    reader = RowReader(
        encoder=RowEncoder(tokenizer, stop_ids=base_files.stop_ids(base.path)),
        base=base,
        max_length=longest_row(settings.max_length, base.num_positions),
        long_rows=settings.long_rows,
    )
    found = read(path, settings, reader)
    rows = laid(found, settings, pad_id=tokenizer.pad_token_id or 0)
    epochs = Epochs(
        num_rows=len(rows.rows),
        rows_per_batch=settings.per_device_train_batch_size,
        batches_per_step=batches_per_step,
        seed=settings.seed,
        is_shuffled=is_shuffled,
    )
    return Preferences(rows=rows, epochs=epochs, dropped=found.dropped)


def _warn_of_shared(path: Path, learned: Preferences, held_out: Preferences) -> None:
    known = {tuple(answer.input_ids) for answer in answers_of(learned.rows)}
    answers = answers_of(held_out.rows)
    if num := sum(tuple(answer.input_ids) in known for answer in answers):
        _log.warning(
            "%d of %d answers of %s are trained on, too: what is measured on it flatters the adapter",
            num,
            len(answers),
            path,
        )
