"""Fields of a row, checked."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from graft.adapters.text.json_values import parse_value
from graft.adapters.text.problems import BadLine, check_characters


def text_of(value: Mapping[str, Any], key: str, where: str = "", *, may_be_empty: bool = True) -> str:
    """The text under a key. Raises ``BadLine`` with ``where`` before it."""
    if key not in value:
        raise BadLine(f"{where}{key} is missing.")
    text = value[key]
    if not isinstance(text, str):
        raise BadLine(f"{where}{key} must be a string, not {kind_of(text)}.")
    if not text.strip() and not may_be_empty:
        raise BadLine(f"{where}{key} is empty, so there is nothing to learn; fill it or remove the row.")
    try:
        check_characters(text)
    except BadLine as problem:
        raise BadLine(f"{where}{key}: {problem}") from None
    return text


def list_of(value: Any, what: str) -> list[Any]:
    """A list that holds something. Raises ``BadLine``."""
    if not isinstance(value, list) or not value:
        raise BadLine(f"{what} must be a list that is not empty, not {kind_of(value)}.")
    return value


def object_of(value: Any, what: str) -> dict[str, Any]:
    """An object without the keys that say null, which is absence. Raises ``BadLine``."""
    if not isinstance(value, dict):
        raise BadLine(f"{what} must be an object, not {kind_of(value)}.")
    return {key: one for key, one in value.items() if one is not None}


def json_of(value: Any, what: str) -> Any:
    """A value, or the one that a text is the JSON of: columns of tables often hold that. Raises ``BadLine``."""
    if not isinstance(value, str):
        return value
    try:
        return parse_value(value)
    except BadLine as problem:
        raise BadLine(f"{what}: {problem}") from None


def check_keys(value: Mapping[str, Any], known: Collection[str], where: str = "the row") -> None:
    """Raises ``BadLine`` for a key that nobody reads."""
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise BadLine(f"{where} has the unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}.")


def check_texts(value: Any, where: str) -> None:
    """Raises ``BadLine`` where a text inside of a JSON value holds what no tokenizer can."""
    try:
        check_characters(json.dumps(value, ensure_ascii=False).replace("\\u0000", "\0"))
    except BadLine as problem:
        raise BadLine(f"{where}: {problem}") from None


def kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    if value == []:
        return "an empty list"
    return names.get(
        type(value), "a number" if isinstance(value, int | float) else f"of the type {type(value).__name__}"
    )
