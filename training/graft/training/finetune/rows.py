"""The rows of a fine-tuning as tokens, checked against what the base can hold."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from graft.adapters.text.problems import BadLine
from graft.training.adapt.adaptable import Adaptable
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.packing import Encoded
from graft.training.batch.rows.reading import FileRows, read_rows
from graft.training.batch.rows.row import Conversation, Document, Row
from graft.training.errors import DataError
from graft.training.finetune.choices import DROP, REFUSE, SPLIT
from graft.training.finetune.long_rows import shortened

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What is learned of one row."""

    examples: list[Encoded]
    dropped: str | None = None
    """Why nothing is,"""
    cut: str | None = None
    """or why not all."""
    num_names: int = 0
    """Speakers that it names, which no chat template shows."""
    longest: int = 0
    """Tokens of its longest example, as it was written."""


@dataclass(frozen=True, kw_only=True)
class LearnedFile:
    """What is learned of a file, and what is not."""

    rows: FileRows[Learned]

    @classmethod
    def read(cls, path: Path, reader: RowReader) -> Self:
        """Raises ``DataError`` where the file cannot be read, ``ConfigurationError`` where the base is at fault."""
        return cls(rows=read_rows(path, reader.learned, columns=reader.columns))

    @property
    def path(self) -> Path:
        return self.rows.path

    @property
    def numbered(self) -> list[tuple[int, Encoded]]:
        """Each example with the number of its row."""
        return [(number, example) for number, one in self.rows.found for example in one.examples]

    @property
    def dropped(self) -> list[tuple[int, str]]:
        """Rows of which nothing is learned, each with the reason."""
        return [(number, one.dropped) for number, one in self.rows.found if one.dropped is not None]

    @property
    def cut(self) -> list[tuple[int, str]]:
        """Rows of which not all is learned, or not in one piece, each with the reason."""
        return [(number, one.cut) for number, one in self.rows.found if one.cut is not None]

    @property
    def notes(self) -> list[str]:
        """What of the file's rows is not read, in words."""
        found = [f"not read: the columns {', '.join(self.rows.unread)}"] if self.rows.unread else []
        if num := sum(one.num_names for _, one in self.rows.found):
            found.append(f"the names of {num} messages are not learned: no chat template shows them")
        return found

    def examples(self) -> list[Encoded]:
        """Raises ``DataError`` with all rows that cannot be learned from. What is left out is told."""
        self.rows.usable()
        for note in self.notes:
            _log.warning("%s: %s", self.path, note)
        for what, rows in (("dropped", self.dropped), ("cut", self.cut)):
            if rows:
                first, reason = rows[0]
                told = f"{len(rows)} rows are {what}, the first in {self.rows.unit} {first}: {reason}"
                _log.warning("%s: %s; --audit lists them all", self.path, told)
        found = [example for _, example in self.numbered]
        if not found:
            raise DataError(f"{self.path}: every row is dropped; raise max_length, or take another of long_rows.")
        return found

    def warn_of_unknown_positions(self, base: Adaptable) -> None:
        """Angles of rotary positions can be computed for any place; what they mean was never learned."""
        room = base.num_positions
        numbered = self.numbered
        longer = [] if room is None else [number for number, one in numbered if len(one.input_ids) > room]
        if longer:
            told = f"{len(longer)} rows are longer than the {room} positions that {base.name} was made for"
            remedy = "shorten the rows, or lower max_length"
            place = f"the first in {self.rows.unit} {longer[0]}: no server takes such a text whole"
            _log.warning("%s: %s, %s; %s", self.path, told, place, remedy)


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """How rows become examples that a base can hold."""

    encoder: RowEncoder
    base: Adaptable
    max_length: int
    long_rows: str = REFUSE
    columns: Mapping[str, str] | None = field(default=None)

    def learned(self, row: Row) -> Learned:
        """Raises ``BadLine``."""
        if self.long_rows == SPLIT and not isinstance(row, Document):
            how = REFUSE  # a part of a conversation has lost what it answers
        else:
            how = self.long_rows
        examples = self.encoder.examples(row)
        self._check_ids(examples)
        names = [turn for turn in row.turns if turn.name and not turn.call_id] if isinstance(row, Conversation) else []
        longest = max(len(example.input_ids) for example in examples)
        most, limit = self._most()
        if longest <= most:
            return Learned(examples=examples, num_names=len(names), longest=longest)
        reason = f"{longest} tokens, {limit}"
        if how == REFUSE:
            raise BadLine(f"{reason}; {self._remedy()}.")
        kept = [one for example in examples for one in self._shortened(example, most, how)]
        if not kept:
            reason = reason if how == DROP else f"{reason}; nothing that is learned is left of it"
            return Learned(examples=[], dropped=reason, longest=longest)
        return Learned(examples=kept, cut=f"{reason} ({how})", num_names=len(names), longest=longest)

    def _shortened(self, example: Encoded, most: int, how: str) -> list[Encoded]:
        return [example] if len(example.input_ids) <= most else shortened(example, most, how)

    def _most(self) -> tuple[int, str]:
        """Tokens of a row, and what says so."""
        room = self.base.num_positions
        if room is not None and (
            room == self.max_length or (self.base.has_learned_positions and room < self.max_length)
        ):
            return room, f"{self.base.name} has {room} positions"
        return self.max_length, f"max_length is {self.max_length}"

    def _remedy(self) -> str:
        is_bases = self._most()[0] == self.base.num_positions
        return f"shorten the row{'' if is_bases else ' or raise max_length'}, or take another of --long-rows"

    def _check_ids(self, examples: Sequence[Encoded]) -> None:
        base, highest = self.base, max(max(example.input_ids) for example in examples)
        if highest >= base.num_embeddings:
            raise BadLine(
                f"it has the token id {highest}, and the embeddings of {base.name} end at "
                f"{base.num_embeddings - 1}; its tokenizer does not belong to its weights, take the one that came with "
                "them."
            )
