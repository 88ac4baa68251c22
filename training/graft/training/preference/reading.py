"""Files of preferences as tokens, checked against what the base can hold and a loss can learn from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

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
    number: int = 0
    """Of its row in the file."""


@dataclass(frozen=True, kw_only=True)
class EncodedJudged:
    """An answer, and whether it is good."""

    answer: Answer
    is_desirable: bool
    number: int = 0
    """Of its row in the file."""


RowT = TypeVar("RowT", EncodedPair, EncodedJudged)


@dataclass(frozen=True, kw_only=True)
class Found(Generic[RowT]):
    """What was read of a file's rows, and of which nothing is, each with its number and the reason."""

    rows: list[RowT]
    dropped: list[tuple[int, str]]


def read_pairs(path: Path, reader: RowReader, *, has_margins: bool) -> Found[EncodedPair]:
    """Raises ``DataError`` with all rows that cannot be learned from, and where some rows have a margin and others
    none.
    """

    def parse(value: Any) -> list[EncodedPair] | str:
        pair = pair_of(value)
        chosen, rejected = _answer(pair.chosen, reader), _answer(pair.rejected, reader)
        if isinstance(chosen, str):
            return chosen
        if isinstance(rejected, str):
            return rejected
        if chosen.input_ids == rejected.input_ids:
            raise BadLine("chosen and rejected are equal, so neither is preferred; remove the row.")
        return [EncodedPair(chosen=chosen, rejected=rejected, margin=pair.margin)]

    found = _read(path, parse)
    if without := [pair.number for pair in found.rows if pair.margin is None]:
        if len(without) < len(found.rows):
            raise DataError(
                f"{path}, line {without[0]}: margin is missing, which other rows have; give it to all or to none."
            )
    elif not has_margins:
        raise DataError(f"{path}: its rows have a margin, which only loss_type reward looks at; leave it out.")
    return found


def read_judged(path: Path, reader: RowReader) -> Found[EncodedJudged]:
    """Raises ``DataError`` with all rows that cannot be learned from, and where all answers have the same label."""

    def parse(value: Any) -> list[EncodedJudged] | str:
        made = [(_answer(one.answer, reader), one.is_desirable) for one in judged_of(value)]
        kept = [EncodedJudged(answer=one, is_desirable=label) for one, label in made if not isinstance(one, str)]
        return kept or next(one for one, _ in made if isinstance(one, str))

    found = _read(path, parse)
    labels = {row.is_desirable for row in found.rows}
    if len(labels) == 1:
        (label,) = labels
        own, other = str(label).lower(), str(not label).lower()
        raise DataError(f"{path}: every label is {own}, so nothing can be told apart; add rows whose label is {other}.")
    return found


def _read(path: Path, parse: Callable[[Any], list[RowT] | str]) -> Found[RowT]:
    """Rows that are too long may be left out, which is told."""
    numbered = read_values(path, parse)
    rows = [replace(row, number=number) for number, made in numbered if not isinstance(made, str) for row in made]
    dropped = [(number, why) for number, why in numbered if isinstance(why, str)]
    if dropped:
        _log.warning("%s: %d rows are too long and dropped, the first in line %d", path, len(dropped), dropped[0][0])
    if not rows:
        raise DataError(f"{path}: every row is dropped; raise max_length.")
    return Found(rows=rows, dropped=dropped)


def _answer(row: Row, reader: RowReader) -> Answer | str:
    """The row's last answer, behind all that is before it; why there is none, where it is too long, and such ones are
    dropped.
    """
    found = reader.learned(row)
    if not found.examples:
        return found.dropped or ""
    ids, supervised = found.examples[-1].input_ids, list(found.examples[-1].supervised)
    begin = supervised.index(True)
    return Answer.of(ids[:begin], ids[begin:])
