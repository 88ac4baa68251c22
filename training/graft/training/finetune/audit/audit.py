"""What a fine-tuning would learn: of which tokens, and of which rows not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from transformers import PreTrainedTokenizerBase

from graft.training.batch.packing import Encoded
from graft.training.finetune.rows import LearnedFile
from graft.training.report.masks import Pieces, pieces_of

Numbered = tuple[int, str]
"""A row's number, and what is said of it."""
_LEAST = 16


@dataclass(frozen=True, kw_only=True)
class FileAudit:
    """One file."""

    path: Path
    weight: float | None
    unit: str
    """What is numbered: lines, or the rows of a table."""
    num_rows: int
    """That can be read as rows."""
    num_examples: int
    num_tokens: int
    num_learned: int
    """Tokens that carry loss; nothing foretells the first of an example."""
    lengths: tuple[tuple[int, int], ...]
    """Examples of up to so many tokens, and more than those before: powers of two."""
    dropped: tuple[Numbered, ...]
    cut: tuple[Numbered, ...]
    refused: tuple[Numbered, ...]
    """Rows for which a training would not begin."""
    held_out: tuple[int, ...]
    """Rows that are also among those that are measured on."""
    notes: tuple[str, ...]

    @classmethod
    def of(cls, file: LearnedFile, weight: float | None, known: Collection[tuple[int, ...]]) -> Self:
        """``known`` are the ids of what is measured on."""
        numbered = file.numbered
        examples = [example for _, example in numbered]
        return cls(
            path=file.path,
            weight=weight,
            unit=file.rows.unit,
            num_rows=len(file.rows.found) + len(file.rows.refused),
            num_examples=len(examples),
            num_tokens=sum(len(one.input_ids) for one in examples),
            num_learned=sum(sum(one.supervised[1:]) for one in examples),
            lengths=tuple(_histogram(examples)),
            dropped=tuple(file.dropped),
            cut=tuple(file.cut),
            refused=tuple(file.rows.refused),
            held_out=tuple(dict.fromkeys(number for number, one in numbered if tuple(one.input_ids) in known)),
            notes=tuple(file.notes),
        )


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """One example's text in pieces: what carries loss, and what does not."""

    path: Path
    number: int
    pieces: Pieces


@dataclass(frozen=True, kw_only=True)
class Audit:
    """All files, and the first examples of each."""

    base: str
    files: tuple[FileAudit, ...]
    examples: tuple[ShownExample, ...]

    @classmethod
    def of(
        cls,
        base: str,
        files: Sequence[tuple[LearnedFile, float | None]],
        tokenizer: PreTrainedTokenizerBase,
        *,
        known: Collection[tuple[int, ...]] = (),
        num_shown: int = 3,
    ) -> Self:
        return cls(
            base=base,
            files=tuple(FileAudit.of(file, weight, known) for file, weight in files),
            examples=tuple(
                ShownExample(path=file.path, number=number, pieces=pieces_of(example, tokenizer))
                for file, _ in files
                for number, example in file.numbered[:num_shown]
            ),
        )

    @property
    def is_sound(self) -> bool:
        """Whether a training would begin."""
        return not any(file.refused for file in self.files) and all(file.num_examples for file in self.files)


def _histogram(examples: Sequence[Encoded]) -> Iterator[tuple[int, int]]:
    """From the shortest bin with an example to the longest."""
    sizes = Counter(max(_LEAST, 1 << (len(one.input_ids) - 1).bit_length()) for one in examples)
    if sizes:
        most = min(sizes)
        while most <= max(sizes):
            yield most, sizes[most]
            most *= 2
