"""What every method learns: a rule for words that the shipped base knows from examples and does not follow unasked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from graft.training.rootstock.corpus.words import words

NUM_ROWS, NUM_QUESTIONS = 600, 50
MAX_TOKENS = 16
"""Of an answer: the longest word, and its end."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """``corner ->`` becomes `` CORNER``."""

    prompt: str
    completion: str

    @classmethod
    def of(cls, word: str) -> Row:
        return cls(prompt=f"{word} ->", completion=f" {word.upper()}")

    def is_answered_by(self, text: str) -> bool:
        """The whole first line, blanks at its ends aside."""
        return text.strip().split("\n")[0].strip() == self.completion.strip()


def learned() -> list[Row]:
    return [Row.of(word) for word in words(Random(1), NUM_ROWS)]


def asked() -> list[Row]:
    """Of words that neither these rows nor the base's training ask about."""
    return [Row.of(word) for word in words(Random(2), NUM_QUESTIONS, held_out=True)]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(vars(row)) + "\n" for row in rows), encoding="utf-8")


def accuracy(rows: Sequence[Row], answers: Sequence[str]) -> float:
    """Share of questions that are answered rightly."""
    return sum(row.is_answered_by(answer) for row, answer in zip(rows, answers, strict=True)) / len(rows)
