"""A beginning and several ways to go on, of which one is right: SWAG's rows (Zellers et al. 2018, arXiv:1808.05326), or
``prompt``, ``choices`` and ``label``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from graft.adapters.text.problems import BadLine
from graft.training.tasks.rows.reading import Row, check_names, shown, text_of, texts_of

_ENDING = re.compile(r"ending(\d+)")
_OF_SWAG = frozenset(("sent1", "sent2", "gold-source", "video-id", "fold-ind"))


@dataclass(frozen=True, kw_only=True)
class Choices:
    """``right`` is the number of the right choice, from 0."""

    prompt: str
    choices: tuple[str, ...]
    right: int


def choices(row: Row) -> Choices:
    """Raises ``BadLine``."""
    numbered = sorted((name for name in row if _ENDING.fullmatch(name)), key=lambda name: int(name[6:]))
    if "startphrase" in row:
        check_names(row, {"startphrase", "endings", "label", *numbered, *_OF_SWAG})
        prompt = text_of(row, "startphrase")
        found = texts_of(row, "endings") if not numbered else tuple(text_of(row, name) for name in numbered)
    else:
        check_names(row, ("prompt", "choices", "label"))
        prompt, found = text_of(row, "prompt"), texts_of(row, "choices")
    right = row.get("label")
    if len(found) < 2:
        raise BadLine("there is one choice; write two or more.")
    if not isinstance(right, int) or isinstance(right, bool) or not 0 <= right < len(found):
        raise BadLine(f"label must be the number of the right choice, from 0 to {len(found) - 1}, not {shown(right)}.")
    return Choices(prompt=prompt, choices=found, right=right)
