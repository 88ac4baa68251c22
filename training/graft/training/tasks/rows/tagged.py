"""Words and a tag for each: ``tokens`` and ``tags``."""

from __future__ import annotations

from dataclasses import dataclass

from graft.adapters.text.problems import BadLine
from graft.training.tasks.rows.reading import Row, check_names, shown, texts_of

_TAGS = ("tags", "ner_tags", "pos_tags")


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """As many tags, by name or by number, as words."""

    words: tuple[str, ...]
    tags: tuple[str | int, ...]


def tagged(row: Row) -> Tagged:
    """Raises ``BadLine``."""
    check_names(row, ("tokens", *_TAGS))
    words = texts_of(row, "tokens")
    names = [name for name in _TAGS if name in row]
    if len(names) != 1:
        raise BadLine("tags is missing." if not names else f"it has {' and '.join(names)}; keep one.")
    tags = row[names[0]]
    if not isinstance(tags, list) or not all(isinstance(one, str | int) and not isinstance(one, bool) for one in tags):
        raise BadLine(f"{names[0]} must be a list of names or numbers, not {shown(tags)}.")
    if len(tags) != len(words):
        raise BadLine(f"{len(words)} tokens and {len(tags)} {names[0]}: each token needs its own.")
    if any(" " in word or "\n" in word or "\t" in word for word in words):
        raise BadLine("a token holds a blank: write the words apart.")
    return Tagged(words=words, tags=tuple(tags))
