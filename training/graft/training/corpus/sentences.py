"""A document as a run reads it."""

from collections.abc import Sequence

Sentences = Sequence[Sequence[int]]
"""A document: the token ids of each of its sentences. One that nobody split is one sentence."""


def flat(document: Sentences) -> list[int]:
    """All tokens of a document."""
    return [one for sentence in document for one in sentence]
