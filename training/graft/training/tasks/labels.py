"""The classes of a file of rows: by what names, in what order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from transformers import PretrainedConfig

from graft.adapters.text.problems import BadLine
from graft.training.errors import ConfigurationError, DataError
from graft.training.tasks.rows.reading import shown

Class = str | int
"""A name, or a number from 0."""
MAX_CLASSES = 10_000


@dataclass(frozen=True, kw_only=True)
class Declared:
    """Labels that are known before a row is read, and by what."""

    names: tuple[str, ...]
    by: str
    are_nameless: bool = False
    """They are numbers with a word before them, as a head has them whose maker named none."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Their numbers are their places."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, found: Iterable[Class], *, known: Declared | None) -> Self:
        """Those that were declared; else those that occur: names in order of the alphabet, numbers all from 0 to the
        largest.

        Raises ``DataError`` where a class has no row, or there is only one.
        """
        counts = Counter(found)
        if not counts:
            raise DataError(f"{path} names no class in any row: there is nothing to tell apart; add rows of some.")
        if known is not None and known.are_nameless and not any(isinstance(one, int) for one in counts):
            _check_number(path, counts, known)
            known = None
        made = cls(names=_named(path, counts) if known is None else known.names)
        numbers = {made.number(one) for one in counts if made.has(one)}
        empty = [name for number, name in enumerate(made.names) if number not in numbers]
        if empty and len(counts) == sum(map(made.has, counts)):
            told = ", ".join(map(repr, empty[:5])) + (" …" if len(empty) > 5 else "")
            reason = "which lies below the largest number" if known is None else f"which {known.by} has"
            raise DataError(
                f"{path} has no row of the label {told}, {reason}: a class without rows cannot be learned; add rows, "
                "or name and number those that there are."
            )
        if len(counts) == 1:
            raise DataError(
                f"{path} has one label only, {shown(next(iter(counts)))}, in all rows: there is nothing to tell apart; "
                "add rows of another."
            )
        return made

    def number(self, label: Class) -> int:
        """Raises ``BadLine`` for a label that is none of them."""
        if not self.has(label):
            told = ", ".join(self.names[:10]) + (" …" if len(self.names) > 10 else "")
            raise BadLine(f"label {shown(label)} is none of the {len(self.names)} labels {told}.")
        return label if isinstance(label, int) else self.names.index(label)

    def has(self, label: Class) -> bool:
        return 0 <= label < len(self.names) if isinstance(label, int) else label in self.names


def declared_by(config: PretrainedConfig, given: Sequence[str] | None, *, has_head: bool) -> Declared | None:
    """By the settings, or by a head that the base has already. Raises ``ConfigurationError`` for a name said twice."""
    if given is not None:
        if twice := [name for name, times in Counter(given).items() if times > 1]:
            told = ", ".join(map(repr, twice))
            raise ConfigurationError(f"setting 'label_names' names {told} more than once: name each class once.")
        return Declared(names=tuple(given), by="--label-names")
    if not has_head:
        return None
    names = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    nameless = all(name == f"LABEL_{number}" for number, name in enumerate(names))
    return Declared(names=names, by=f"the base's head of {len(names)} labels", are_nameless=nameless)


def _check_number(path: Path, counts: Counter[Class], known: Declared) -> None:
    if len(counts) != len(known.names):
        raise DataError(
            f"{path} has {len(counts)} labels, and {known.by} is for another number of them: take a base without a "
            "head, or rows of as many."
        )


def _named(path: Path, counts: Counter[Class]) -> tuple[str, ...]:
    kinds = {type(one) for one in counts}
    if len(kinds) > 1:
        raise DataError(f"{path} has labels that are names and labels that are numbers; write all of them alike.")
    if kinds == {int}:
        numbers = sorted(int(one) for one in counts)
        wrong = numbers[0] if numbers[0] < 0 else numbers[-1]
        if wrong < 0 or wrong > MAX_CLASSES:
            raise DataError(f"{path} has the label {wrong}: number classes from 0 to {MAX_CLASSES} at most.")
        return tuple(map(str, range(numbers[-1] + 1)))
    return tuple(sorted(map(str, counts)))
