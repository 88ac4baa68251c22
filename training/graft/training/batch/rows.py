"""Training rows: JSON lines with ``messages``, or with ``prompt`` and ``completion``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from graft.adapters.text import rows as text_rows
from graft.adapters.text.problems import BadLine, check_characters
from graft.training.errors import DataError, of_data

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message. ``is_learned`` is false for an assistant turn of weight 0 and for every other role."""

    role: str
    content: str
    is_learned: bool


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A row of ``messages``."""

    turns: tuple[Turn, ...]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A row of ``prompt`` and ``completion``."""

    prompt: str
    completion: str


Row = Conversation | Completion
T = TypeVar("T")


def read_rows(path: Path, encode: Callable[[Row], T]) -> list[tuple[int, T]]:
    """Reads and checks a file of rows: what ``encode`` makes of each, with the number of the line that it begins on.

    ``encode`` raises ``BadLine`` for a row that it cannot use. Raises ``DataError``, which names the file and, for up
    to ten bad rows, the line, what is wrong and what to do.
    """
    rows = of_data(text_rows.read_rows, path, lambda value: encode(_row(value)))
    if not rows:
        raise DataError(
            f"{path} has no rows; write one JSON object per line, with messages or with prompt and completion."
        )
    return rows


def _row(value: Any) -> Row:
    if not isinstance(value, dict):
        raise BadLine(f"a row must be a JSON object, not {_kind(value)}.")
    if "messages" in value:
        _check_keys(value, {"messages"})
        return _conversation(value["messages"])
    if "prompt" in value or "completion" in value:
        _check_keys(value, {"prompt", "completion"})
        return Completion(prompt=_text(value, "prompt"), completion=_text(value, "completion", may_be_empty=False))
    raise BadLine("a row needs messages, or prompt and completion.")


def _conversation(messages: Any) -> Conversation:
    if not isinstance(messages, list) or not messages:
        raise BadLine(f"messages must be a list with at least one message, not {_kind(messages)}.")
    turns = tuple(_turn(message, number) for number, message in enumerate(messages, start=1))
    if not any(turn.is_learned for turn in turns):
        raise BadLine("no assistant message to learn from; add one, or remove its weight 0.")
    return Conversation(turns=turns)


def _turn(message: Any, number: int) -> Turn:
    if not isinstance(message, dict):
        raise BadLine(f"message {number} must be an object with role and content, not {_kind(message)}.")
    role = message.get("role")
    if role not in ROLES:
        raise BadLine(f"message {number} has role {role!r}; the roles are {', '.join(ROLES)}.")
    is_assistant = role == "assistant"
    _check_keys(message, {"role", "content", "weight"} if is_assistant else {"role", "content"}, f"message {number}")
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        raise BadLine(f"message {number} has weight {weight!r}; it must be 0 or 1.")
    content = _text(message, "content", f"message {number}: ", may_be_empty=not is_assistant)
    return Turn(role=role, content=content, is_learned=is_assistant and weight == 1)


def _text(value: Mapping[str, Any], key: str, where: str = "", *, may_be_empty: bool = True) -> str:
    if key not in value:
        raise BadLine(f"{where}{key} is missing.")
    text = value[key]
    if not isinstance(text, str):
        raise BadLine(f"{where}{key} must be a string, not {_kind(text)}.")
    if not text.strip() and not may_be_empty:
        raise BadLine(f"{where}{key} is empty, so there is nothing to learn; fill it or remove the row.")
    try:
        check_characters(text)
    except BadLine as problem:
        raise BadLine(f"{where}{key}: {problem}") from None
    return text


def _check_keys(value: Mapping[str, Any], known: set[str], where: str = "the row") -> None:
    unknown = sorted(set(value) - known)
    if unknown:
        raise BadLine(f"{where} has the unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}.")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
