"""How much of a held-out text was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_LEAST_BYTES = 24
"""Shorter lines (``End of chapter.``) stand in every prose; eight letters of Chinese say as much as this."""


def overlap(documents: Sequence[str], held_out: Sequence[str]) -> float:
    """The part of a held-out text that stands in the documents, too, from 0 to 1: by characters, in lines that are the
    same but for the blanks around them.

    Short lines count in held-out documents that are mostly made of them, as rows of sums or verses are: equal by chance
    or not, they were trained on.
    """
    asked = [line for document in held_out for line in _telling(document)]
    shared = set(map(hash, asked)).intersection(hash(line) for document in documents for line in _lines(document))
    total = sum(map(len, asked))
    return sum(len(line) for line in asked if hash(line) in shared) / total if total else 0.0


def _telling(document: str) -> list[str]:
    """The lines by which a document is known."""
    lines = list(_lines(document))
    long = [line for line in lines if len(line.encode()) >= _LEAST_BYTES]
    return long if 2 * sum(map(len, long)) >= sum(map(len, lines)) else lines


def _lines(document: str) -> Iterator[str]:
    return (stripped for line in document.split("\n") if (stripped := line.strip()))
