"""Of which tokens a row's loss is taken: its text, in which they are marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from graft.training.batch.packing import Encoded
from graft.training.report.page import heading, paragraph

Pieces = tuple[tuple[str, bool], ...]
"""A text in parts: what carries loss, and what does not."""
MAX_SHOWN = 8
"""Rows on a page about a training."""
MAX_CHARACTERS, MAX_PIECES = 2_000, 32
"""Of one part, and parts of one row, on a page that stays small."""


@dataclass(frozen=True, kw_only=True)
class MarkedRow:
    """``title`` says which it is."""

    title: str
    pieces: Pieces


def pieces_of(example: Encoded, tokenizer: PreTrainedTokenizerBase) -> Pieces:
    """Nothing foretells the first token, so it carries no loss."""
    learned = [False, *example.supervised[1:]]
    runs = groupby(zip(example.input_ids, learned, strict=True), key=lambda one: one[1])
    return tuple((str(tokenizer.decode([id for id, _ in run])), is_learned) for is_learned, run in runs)


def bounded(pieces: Pieces) -> Pieces:
    """The same without the middle of long parts, and without the middle ones of many."""
    left_out = len(pieces) - MAX_PIECES
    if left_out > 0:
        half = MAX_PIECES // 2
        pieces = (*pieces[:half], (f" … {left_out} parts … ", False), *pieces[-half:])
    return tuple((_bounded(text), is_learned) for text, is_learned in pieces)


def marked(rows: Sequence[MarkedRow]) -> str:
    """HTML."""
    if not rows:
        return ""
    said = paragraph("Marked is what carries loss.", kind="quiet")
    return f'{said}<div class="marks">{"".join(map(_row, rows))}</div>'


def _row(row: MarkedRow) -> str:
    return f"<div>{heading(row.title)}<pre>{''.join(_parts(row.pieces))}</pre></div>"


def _parts(pieces: Pieces) -> Iterator[str]:
    for text, is_learned in pieces:
        yield f"<mark>{escape(text)}</mark>" if is_learned else f'<span class="quiet">{escape(text)}</span>'


def _bounded(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"
