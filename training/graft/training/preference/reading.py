"""Files of preferences as tokens, checked against what the base can hold and a loss can learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from graft.adapters.text.problems import BadLine
from graft.training.batch.answers import Answer
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.packing import Encoded
from graft.training.batch.rows import Row
from graft.training.errors import DataError
from graft.training.preference.fields import read_values
from graft.training.preference.formats import Pair, judged_of, pair_of

CheckEncoded = Callable[[Sequence[Encoded]], None]
"""Raises ``BadLine`` for what is too long, or has tokens that the base has not."""


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


def read_pairs(path: Path, encoder: RowEncoder, check: CheckEncoded, *, has_margins: bool) -> list[EncodedPair]:
    """Raises ``DataError`` with all rows that cannot be learned from, and where some rows have a margin and others
    none.
    """

    def parse(value: Any) -> EncodedPair:
        return _encoded_pair(pair_of(value), encoder, check)

    numbered = _read(path, parse)
    if without := [number for number, pair in numbered if pair.margin is None]:
        if len(without) < len(numbered):
            raise DataError(
                f"{path}, line {without[0]}: margin is missing, which other rows have; give it to all or none."
            )
    elif not has_margins:
        raise DataError(f"{path}: its rows have a margin, which only loss_type reward looks at; leave it out.")
    return [pair for _, pair in numbered]


def read_judged(path: Path, encoder: RowEncoder, check: CheckEncoded) -> list[EncodedJudged]:
    """Raises ``DataError`` with all rows that cannot be learned from, and where all answers have the same label."""

    def parse(value: Any) -> list[EncodedJudged]:
        made = [
            EncodedJudged(answer=_answer(one.answer, encoder), is_desirable=one.is_desirable)
            for one in judged_of(value)
        ]
        check([one.answer for one in made])
        return made

    rows = list(chain.from_iterable(judged for _, judged in _read(path, parse)))
    labels = {row.is_desirable for row in rows}
    if len(labels) == 1:
        (label,) = labels
        other = str(not label).lower()
        raise DataError(
            f"{path}: every label is {str(label).lower()}, so nothing can be told apart; add rows of {other}."
        )
    return rows


def _read(path: Path, parse: Callable[[Any], Any]) -> list[tuple[int, Any]]:
    rows = read_values(path, parse)
    if not rows:
        raise DataError(f"{path} has no rows; write one JSON object per line.")
    return rows


def _encoded_pair(pair: Pair, encoder: RowEncoder, check: CheckEncoded) -> EncodedPair:
    chosen, rejected = _answer(pair.chosen, encoder), _answer(pair.rejected, encoder)
    if chosen.input_ids == rejected.input_ids:
        raise BadLine("chosen and rejected are equal, so neither is preferred; remove the row.")
    check([chosen, rejected])
    return EncodedPair(chosen=chosen, rejected=rejected, margin=pair.margin)


def _answer(row: Row, encoder: RowEncoder) -> Answer:
    """The row's last answer, behind all that is before it."""
    example = encoder.examples(row)[-1]
    begin = list(example.supervised).index(True)
    return Answer.of(example.input_ids[:begin], example.input_ids[begin:])
