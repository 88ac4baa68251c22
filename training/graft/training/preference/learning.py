"""What is learned from preferences, by the settings: rows, objective and batches that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graft.training.batch.epochs import Epochs
from graft.training.batch.packing import Encoded
from graft.training.finetune.rows import RowReader
from graft.training.objective.objective import Objective
from graft.training.objective.preference.kto import KtoObjective
from graft.training.objective.preference.pair_losses import PAIR_LOSSES
from graft.training.objective.preference.pairs import PairObjective
from graft.training.objective.preference.reward import RewardObjective
from graft.training.preference.batches import JudgedAnswers, Laying, Pairs, PreferenceData
from graft.training.preference.reading import EncodedJudged, EncodedPair, Found, read_judged, read_pairs
from graft.training.preference.settings import JUDGED, KTO, REWARD, AlignSettings

Rows = Pairs | JudgedAnswers


def read(path: Path, settings: AlignSettings, reader: RowReader) -> Found[EncodedPair] | Found[EncodedJudged]:
    """Raises ``DataError`` with all rows that cannot be learned from."""
    if settings.loss_type in JUDGED:
        return read_judged(path, reader)
    return read_pairs(path, reader, has_margins=settings.loss_type == REWARD)


def laid(found: Found[EncodedPair] | Found[EncodedJudged], settings: AlignSettings, *, pad_id: int) -> Rows:
    """What was read, as batches are made of it."""
    laying = Laying(packing=settings.packing, pad_id=pad_id)
    judged = [row for row in found.rows if isinstance(row, EncodedJudged)]
    if judged:
        return JudgedAnswers(rows=judged, laying=laying, estimates_divergence=settings.loss_type == KTO)
    pairs = [row for row in found.rows if isinstance(row, EncodedPair)]
    loss = PAIR_LOSSES.get(settings.loss_type)
    return Pairs(rows=pairs, laying=laying, learns_prompts=loss is not None and loss.learns_prompts)


def objective_of(settings: AlignSettings) -> Objective[Any]:
    if settings.loss_type == REWARD:
        return RewardObjective(center_rewards_coefficient=settings.center_rewards_coefficient)
    if settings.loss_type in JUDGED:
        return KtoObjective(
            beta=settings.beta,
            desirable_weight=settings.desirable_weight,
            undesirable_weight=settings.undesirable_weight,
        )
    loss = PAIR_LOSSES[settings.loss_type]
    return PairObjective(loss=loss, strength=settings.strength, nll_weight=settings.nll_weight)


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """A file's rows in epochs."""

    rows: Rows
    epochs: Epochs
    dropped: Sequence[tuple[int, str]] = ()
    """Rows of which nothing is learned, by their numbers, each with the reason."""

    @property
    def data(self) -> PreferenceData[Any]:
        return PreferenceData(make=self.rows.batch, epochs=self.epochs)

    @property
    def answers(self) -> list[Encoded]:
        """Every answer once, those that are preferred first."""
        return answers_of(self.rows)

    def with_references(self, found: Sequence[Sequence[float]]) -> Preferences:
        """With what the reference finds of each row's answers."""
        return replace(self, rows=replace(self.rows, references=found))


def answers_of(rows: Rows) -> list[Encoded]:
    if isinstance(rows, Pairs):
        return [*(row.chosen for row in rows.rows), *(row.rejected for row in rows.rows)]
    by_label: Sequence[EncodedJudged] = sorted(rows.rows, key=lambda row: not row.is_desirable)
    return [row.answer for row in by_label]
