"""All that a fine-tuning learns from and is measured on, as tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from graft.training.batch.mixture import Mixture
from graft.training.batch.packing import Encoded
from graft.training.errors import DataError
from graft.training.finetune.rows import Learned, LearnedFile, RowReader
from graft.training.job.sources import Sources


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Examples, in the order of their files, and those that are held out of them."""

    examples: list[Encoded]
    held_out: list[Encoded]
    mixture: Mixture | None
    """Where files have weights."""
    files: tuple[tuple[LearnedFile, float | None], ...] = ()
    """With their weights."""

    @classmethod
    def read(cls, sources: Sources, reader: RowReader, *, split: float = 0.0, seed: int = 0) -> Self:
        """``split`` is the share of rows that is held out. Raises ``DataError`` with all wrong rows."""
        files = read_all(sources, reader)
        for file in files:
            file.warn_of_unknown_positions(reader.base)
        return cls.of(files, sources.weights, split=split, seed=seed)

    @classmethod
    def of(
        cls, files: Sequence[LearnedFile], weights: Sequence[float | None], *, split: float = 0.0, seed: int = 0
    ) -> Self:
        """Raises ``DataError``."""
        _check(files)
        rows = [[one for _, one in file.rows.found if one.examples] for file in files]
        out = held_out_keys([one for each in rows for one in each], split, seed)
        kept = [[one for one in each if key_of(one) not in out] for each in rows]
        sizes = tuple(sum(len(one.examples) for one in each) for each in kept)
        if not all(sizes):
            path = files[sizes.index(0)].path
            raise DataError(f"{path} has no row left to learn from beside those that are held out; give it more rows.")
        is_mixed = any(weight is not None for weight in weights)
        return cls(
            examples=_examples(one for each in kept for one in each),
            held_out=_examples(one for each in rows for one in each if key_of(one) in out),
            mixture=Mixture(sizes=sizes, weights=tuple(weights), seed=seed) if is_mixed else None,
            files=tuple(zip(files, weights, strict=True)),
        )


def read_all(sources: Sources, reader: RowReader) -> list[LearnedFile]:
    """Raises ``DataError`` where a file cannot be read."""
    return [LearnedFile.read(path, reader) for path in sources.paths]


def key_of(row: Learned) -> tuple[int, ...]:
    """Rows with the same are the same, or begin with the same conversation."""
    return tuple(row.examples[0].input_ids)


def held_out_keys(rows: Sequence[Learned], split: float, seed: int) -> frozenset[tuple[int, ...]]:
    """Of the rows that are held out: a share of them, one at least, by their content alone. What is the same lies on
    the same side, and more rows move none of those that were there by more than the share's rounding.
    """
    if not split:
        return frozenset()
    keys = sorted({key_of(one) for one in rows}, key=lambda key: _drawn(key, seed))
    return frozenset(keys[: max(1, round(split * len(keys)))])


def _drawn(key: tuple[int, ...], seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{key}".encode()).digest()


def _examples(rows: Iterable[Learned]) -> list[Encoded]:
    return [example for one in rows for example in one.examples]


def _check(files: Sequence[LearnedFile]) -> None:
    """Raises ``DataError`` with what is wrong with every file."""
    problems = []
    for file in files:
        try:
            file.examples()
        except DataError as problem:
            problems.append(str(problem))
    if problems:
        raise DataError("\n".join(problems))
