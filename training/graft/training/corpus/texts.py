"""Texts as sentences of token ids, cut into rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from graft.adapters.text import documents
from graft.adapters.text.spelling import Spelling
from graft.training.errors import of_data

Sentences = Sequence[Sequence[int]]
"""A document: the token ids of each of its sentences. One that nobody split is one sentence."""
SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+(?=\S)|(?<=[。！？])(?=[^\s。！？])|(?<!\n)\n++(?=.)")
"""The blanks behind a full stop, nothing behind one of scripts without blanks, or the end of a line: the whole run of
newlines, looked at once, since there may be a great many of them at a text's end."""


def read_documents(path: Path) -> list[str]:
    """As ``graft.adapters.text.documents`` reads them. Raises ``DataError``."""
    return of_data(documents.read_documents, path)


def encode_whole(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Sentences]:
    """Each document as token ids, in one piece and to the last blank, without special tokens (see ``Spelling``)."""
    return [[ids] for ids in Spelling(tokenizer).texts(texts)]


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Sentences]:
    """Each document's sentences as token ids, without special tokens: together those of the whole document, so that the
    blanks between sentences are what a model sees, too.
    """
    spelling = Spelling(tokenizer)
    encoded = [spelling.pieces(text, [match.end() for match in SENTENCE_END.finditer(text)]) for text in texts]
    return [[sentence for sentence in document if sentence] for document in encoded]


def windows(document: Sentences, room: int) -> Iterator[Sentences]:
    """The document in pieces of at most ``room`` tokens, cut between sentences where that is possible."""
    piece: list[Sequence[int]] = []
    size = 0
    for sentence in document:
        for start in range(0, len(sentence), room):
            part = sentence[start : start + room]
            if size + len(part) > room:
                yield piece
                piece, size = [], 0
            piece.append(part)
            size += len(part)
    if piece:
        yield piece


def flat(document: Sentences) -> list[int]:
    """All tokens of a document."""
    return [one for sentence in document for one in sentence]
