"""How much of a held-out text was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_LEAST_CHARACTERS = 24
"""Shorter lines (``End of chapter.``) stand in every text."""


def overlap(documents: Sequence[str], held_out: Sequence[str]) -> float:
    """The part of a held-out text that stands in the documents, too, from 0 to 1: by characters, in lines that are the
    same but for the blanks around them. Short lines do not count: they stand in every text.
    """
    seen = set(map(hash, _lines(documents)))
    total = shared = 0
    for line in _lines(held_out):
        total += len(line)
        shared += len(line) if hash(line) in seen else 0
    return shared / total if total else 0.0


def _lines(documents: Sequence[str]) -> Iterator[str]:
    for document in documents:
        for line in document.split("\n"):
            stripped = line.strip()
            if len(stripped) >= _LEAST_CHARACTERS:
                yield stripped
