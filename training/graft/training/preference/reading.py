"""Files of preferences as tokens, checked against what the base can hold and a loss can learn from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from graft.adapters.text.problems import BadLine
from graft.training.batch.answers import Answer
from graft.training.batch.rows.reading import read_values
from graft.training.batch.rows.row import Row
from graft.training.errors import DataError
from graft.training.finetune.rows import RowReader
from graft.training.preference.formats import judged_of, pair_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EncodedPair:
    """Two answers behind the same prompt."""

    chosen: Answer
    rejected: Answer
    margin: float | None = None


@dataclass(frozen=True, kw_only=True)
class EncodedJudged:
    """An answer, and whether it is good."""

    answer: Answer
    is_desirable: bool


def read_pairs(path: Path, reader: RowReader, *, has_margins: bool) -> list[EncodedPair]:
    """Raises ``DataError`` with all rows that cannot be learned from, and where some rows have a margin and others
    none.
    """

    def parse(value: Any) -> list[EncodedPair]:
        pair = pair_of(value)
        chosen, rejected = _answer(pair.chosen, reader), _answer(pair.rejected, reader)
        if chosen is None or rejected is None:
            return []
        if chosen.input_ids == rejected.input_ids:
            raise BadLine("chosen and rejected are equal, so neither is preferred; remove the row.")
        return [EncodedPair(chosen=chosen, rejected=rejected, margin=pair.margin)]

    numbered = _read(path, parse)
    if without := [number for number, pairs in numbered if any(pair.margin is None for pair in pairs)]:
        if any(pair.margin is not None for _, pairs in numbered for pair in pairs):
            raise DataError(
                f"{path}, line {without[0]}: margin is missing, which other rows have; give it to all or to none."
            )
    elif not has_margins:
        raise DataError(f"{path}: its rows have a margin, which only loss_type reward looks at; leave it out.")
    return [pair for _, pairs in numbered for pair in pairs]


def read_judged(path: Path, reader: RowReader) -> list[EncodedJudged]:
    """Raises ``DataError`` with all rows that cannot be learned from, and where all answers have the same label."""

    def parse(value: Any) -> list[EncodedJudged]:
        made = [(_answer(one.answer, reader), one.is_desirable) for one in judged_of(value)]
        return [EncodedJudged(answer=answer, is_desirable=label) for answer, label in made if answer is not None]

    rows = list(chain.from_iterable(judged for _, judged in _read(path, parse)))
    labels = {row.is_desirable for row in rows}
    if len(labels) == 1:
        (label,) = labels
        own, other = str(label).lower(), str(not label).lower()
        raise DataError(f"{path}: every label is {own}, so nothing can be told apart; add rows whose label is {other}.")
    return rows


def _read(path: Path, parse: Callable[[Any], Sequence[Any]]) -> list[tuple[int, Any]]:
    """Rows that are too long may be left out, which is told."""
    rows = read_values(path, parse)
    if left := [number for number, made in rows if not made]:
        _log.warning("%s: %d rows are too long and dropped, the first in line %d", path, len(left), left[0])
    if len(left) == len(rows):
        raise DataError(f"{path}: every row is dropped; raise max_length.")
    return rows


def _answer(row: Row, reader: RowReader) -> Answer | None:
    """The row's last answer, behind all that is before it; None where it is too long, and such ones are dropped."""
    examples = reader.learned(row).examples
    if not examples:
        return None
    ids, supervised = examples[-1].input_ids, list(examples[-1].supervised)
    begin = supervised.index(True)
    return Answer.of(ids[:begin], ids[begin:])
