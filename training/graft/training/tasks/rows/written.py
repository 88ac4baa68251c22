"""A text to read and the text to write: ``source`` and ``target``, names that say the same, or an instruction and its
output.
"""

from __future__ import annotations

from dataclasses import dataclass

from graft.adapters.text.problems import BadLine
from graft.training.tasks.rows.reading import BESIDE, Row, text_of

_NAMES = (
    ("source", "target"), ("prompt", "completion"), ("document", "summary"), ("article", "highlights"),
    ("question", "answer"), ("instruction", "output"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Written:
    """Both without blanks around them, of which the tokenizers of such models keep none."""

    source: str
    target: str


def written(row: Row) -> Written:
    """Raises ``BadLine``."""
    names = set(row) - BESIDE
    if "input" in names and not row["input"]:
        names -= {"input"}
    if names == {"instruction", "input", "output"}:
        told = f"{text_of(row, 'instruction').strip()}\n{text_of(row, 'input').strip()}"
        return Written(source=told, target=text_of(row, "output").strip())
    found = next((pair for pair in _NAMES if set(pair) == names), None)
    if found is None:
        ways = ", ".join(" + ".join(pair) for pair in _NAMES)
        raise BadLine(f"a row has one of: {ways}; it has {', '.join(sorted(names)) or 'none of them'}.")
    source, target = (text_of(row, name).strip() for name in found)
    return Written(source=source, target=target)
