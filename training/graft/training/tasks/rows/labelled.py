"""A text, or a pair of texts, with its label: ``text`` and ``label``, ``text_pair`` beside them, and GLUE's names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from graft.adapters.text.problems import BadLine, check_characters
from graft.training.tasks.rows.reading import BESIDE, Row, check_names, shown, text_of

PAIRS = (
    ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("question", "sentence"), ("question", "passage"),
)  # fmt: skip
MOST = 1e18
"""Of a number that is said: its square is a number in 32 bits, too."""
SINGLE = (("text",), ("sentence",))
Label = str | int | float | tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """``label`` is a class by its name or number, several of them, or what is to be said as a number."""

    text: str
    pair: str | None
    label: Label


def number_of(label: int | float) -> float:
    """Raises ``BadLine`` for one that is nothing in the 32 bits in which it is learned."""
    if abs(label) > MOST:
        raise BadLine(f"label {shown(label)} is beyond what 32 bits hold: scale the numbers down.")
    return float(label)


def labelled(row: Row) -> Labelled:
    """Raises ``BadLine``."""
    names = set(row) - BESIDE - {"label", "labels"}
    found: list[tuple[str, ...]] = [one for one in (*PAIRS, *SINGLE) if set(one) == names]
    if len(found) != 1:
        ways = ", ".join(["text", *(" + ".join(pair) for pair in PAIRS)])
        has = f"it has {', '.join(sorted(names))}" if names else "it has none of them"
        raise BadLine(f"a row has its label and one of: {ways}; {has}.")
    texts = [text_of(row, name) for name in found[0]]
    check_names(row, {*names, "label", "labels"})
    return Labelled(text=texts[0], pair=texts[1] if len(texts) > 1 else None, label=_label_of(row))


def _label_of(row: Row) -> Label:
    if ("label" in row) == ("labels" in row):
        raise BadLine("label is missing." if "label" not in row else "it has label and labels; keep one.")
    value = row["label"] if "label" in row else row["labels"]
    if isinstance(value, list):
        return tuple(_class_of(one) for one in value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadLine(f"label {value} is no finite number.")
        return value
    return _class_of(value)


def _class_of(value: Any) -> str | int:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return value
    if not isinstance(value, str):
        raise BadLine(f"label must be a name, a number or a list of them, not {shown(value)}.")
    check_characters(value)
    if not value.strip():
        raise BadLine("label is empty; name the class.")
    return value.strip()
