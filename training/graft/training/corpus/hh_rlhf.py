"""Anthropic's pairs of conversations (Bai et al. 2022, arXiv:2204.05862) as they are published: ``chosen`` and
``rejected`` are texts in which each turn begins with ``\\n\\nHuman:`` or ``\\n\\nAssistant:``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from graft.adapters.text import rows
from graft.adapters.text.problems import BadLine
from graft.training.errors import of_data

_ROLES = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"\n\n(Human|Assistant):")
Message = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What became of a file."""

    rows: Sequence[dict[str, Any]]
    """With ``prompt``, ``chosen`` and ``rejected`` as messages."""
    dropped: Counter[str]
    """How many others there were, by what is the matter with them."""


def read(path: Path) -> Converted:
    """Reads JSON lines, plain or gzip. Raises ``DataError`` where a row is of another kind, with all such lines."""
    pairs = [pair for _, pair in of_data(rows.read_rows, path, _texts)]
    made, dropped = list[dict[str, Any]](), Counter[str]()
    for chosen, rejected in pairs:
        row = _row(messages(chosen), messages(rejected))
        if isinstance(row, str):
            dropped[row] += 1
        else:
            made.append(row)
    return Converted(rows=made, dropped=dropped)


def messages(text: str) -> list[Message]:
    """The turns of a conversation, without the blanks around them."""
    _, *parts = _TURN.split(text)
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": _ROLES[speaker], "content": said.strip()} for speaker, said in turns]


def _row(chosen: list[Message], rejected: list[Message]) -> dict[str, Any] | str:
    """A row, or why there is none: what is preferred must be two answers to the same."""
    if chosen == rejected:
        return "both are equal"
    if chosen[:-1] != rejected[:-1]:
        return "they differ before the last turn"
    if any(one[-1]["role"] != "assistant" for one in (chosen, rejected)):
        return "the last turn is not the assistant's"
    if not all(message["content"] for message in (*chosen, rejected[-1])):
        return "a turn is empty"
    if any(one["role"] == other["role"] for one, other in pairwise(chosen)):
        return "somebody speaks twice in a row"
    return {"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}


def _texts(value: Any) -> tuple[str, str]:
    texts = [value.get(key) if isinstance(value, dict) else None for key in ("chosen", "rejected")]
    found = [text for text in texts if isinstance(text, str) and _TURN.match(text)]
    if len(found) < len(texts):
        raise BadLine("a row of hh-rlhf has the texts chosen and rejected, which begin with a blank line and Human:.")
    return found[0], found[1]
