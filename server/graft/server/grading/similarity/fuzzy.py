"""Likeness of characters: what rapidfuzz's `fuzz.ratio` says, of one."""

from __future__ import annotations

from graft.server.grading.similarity.subsequence import common_length


def fuzzy_match(text: str, reference: str) -> float:
    """1 - d / (|a| + |b|), where d counts insertions and deletions that make one of the other. Two empty texts: 1."""
    both = len(text) + len(reference)
    return 2 * common_length(text, reference) / both if both else 1.0
