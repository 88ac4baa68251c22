"""Which format a row is written in: told by its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graft.adapters.text.problems import BadLine
from graft.training.batch.rows.fields import check_keys, kind_of, text_of
from graft.training.batch.rows.messages import BESIDE, conversation, prompt_and_completion
from graft.training.batch.rows.row import Completion, Document, Instruction, Row
from graft.training.batch.rows.sharegpt import shared


def row_of(value: Any) -> Row:
    """A JSON value as a row; null is absence. Raises ``BadLine``."""
    if not isinstance(value, dict):
        raise BadLine(f"a row must be a JSON object, not {kind_of(value)}.")
    row = {key: one for key, one in value.items() if one is not None}
    for keys, remedy in _ELSEWHERE:
        if row.keys() >= keys:
            raise BadLine(f"it has {' and '.join(sorted(keys))}: {remedy}.")
    for key, read in _READERS.items():
        if key in row:
            return read(row)
    raise BadLine("a row needs messages, or prompt and completion, instruction and output, conversations, or text.")


def keys_of(columns: set[str]) -> frozenset[str]:
    """Of a table's columns those that its rows are read from; all, where other commands read such rows. A label beside
    what can be read is a column like any other.
    """
    if any(columns >= keys for keys, _ in _ELSEWHERE if "label" not in keys):
        return frozenset(columns)
    for key, keys in _KEYS.items():
        if key in columns:
            return frozenset(columns & keys)
    return frozenset(columns)


def _prompted(row: Mapping[str, Any]) -> Row:
    if isinstance(row.get("prompt"), list):
        return prompt_and_completion(row)
    check_keys(row, {"prompt", "completion"})
    return Completion(prompt=text_of(row, "prompt"), completion=text_of(row, "completion", may_be_empty=False))


def _instructed(row: Mapping[str, Any]) -> Instruction:
    """Alpaca's own file has beside these the ``text`` that was made of them."""
    check_keys(row, _KEYS["instruction"] | {"text"})
    return Instruction(
        instruction=text_of(row, "instruction", may_be_empty=False),
        input=text_of(row, "input") if "input" in row else "",
        output=text_of(row, "output", may_be_empty=False),
        system=text_of(row, "system") if "system" in row else "",
    )


def _document(row: Mapping[str, Any]) -> Document:
    check_keys(row, {"text"})
    return Document(text=text_of(row, "text", may_be_empty=False))


_ELSEWHERE: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset(("chosen", "rejected")),
        "train on preferences with graft align, or on chosen answers with --columns prompt=prompt,completion=chosen",
    ),
    (frozenset(("preferred_output",)), "train on preferences with graft align"),
    (
        frozenset(("completion", "label")),
        "train on answers that are good or bad with graft align --loss-type kto, or leave the label out",
    ),
    (frozenset(("text", "label")), "train a classifier with --task text-classification, or leave the label out"),
    (frozenset(("tokens", "tags")), "train with --task token-classification"),
    (frozenset(("context", "question", "answers")), "train with --task question-answering"),
    (frozenset(("prompt", "choices")), "train with --task multiple-choice"),
)
"""Keys of rows that are learned otherwise than by next tokens, and how."""
_READERS: Mapping[str, Callable[[Mapping[str, Any]], Row]] = {
    "messages": conversation,
    "conversations": shared,
    "instruction": _instructed,
    "prompt": _prompted,
    "completion": _prompted,
    "text": _document,
}
"""By the key that decides, the first of these that a row has."""
_KEYS: Mapping[str, set[str]] = {
    "messages": {"messages", *BESIDE},
    "conversations": {"conversations", "system", "tools"},
    "instruction": {"instruction", "input", "output", "system"},
    "prompt": {"prompt", "completion", *BESIDE},
    "text": {"text"},
}
