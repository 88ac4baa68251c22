"""Texts as sentences of token ids, cut into rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from graft.training.errors import DataError
from graft.training.objective.objective import Sentences

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)")
_HEADING = re.compile(r"^ = [^=].* = $")


def read_documents(path: Path) -> list[str]:
    """The documents of a file: of ``.jsonl`` each line's ``text``; of any other articles where WikiText's headings are
    (`` = Title = ``), else the whole file.

    Raises ``DataError`` where the file cannot be read, is not UTF-8, or holds no text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from None
    found = _json_lines(path, text) if path.suffix == ".jsonl" else _articles(text)
    if not found:
        raise DataError(f"{path} holds no text.")
    return found


def _json_lines(path: Path, text: str) -> list[str]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: no JSON: {error}") from None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise DataError(f'{path}, line {number}: must be an object with "text".')
        if row["text"].strip():
            found.append(row["text"])
    return found


def _articles(text: str) -> list[str]:
    documents: list[list[str]] = [[]]
    for line in text.splitlines():
        if _HEADING.match(line):
            documents.append([])
        if line.strip():
            documents[-1].append(line.strip())
    return ["\n".join(lines) for lines in documents if lines]


def encode_whole(documents: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Sentences]:
    """Each document as token ids, in one piece and to the last blank, without special tokens."""
    return [[ids] for ids in tokenizer(list(documents), add_special_tokens=False, verbose=False)["input_ids"]]


def encode(documents: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Sentences]:
    """Each document's sentences as token ids, without special tokens. Blanks between them are gone."""
    encoded: list[Sentences] = []
    for document in documents:
        sentences = [part for line in document.split("\n") for part in _SENTENCE_END.split(line)]
        ids = tokenizer(sentences, add_special_tokens=False, verbose=False)["input_ids"]
        encoded.append([one for one in ids if one])
    return encoded


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
