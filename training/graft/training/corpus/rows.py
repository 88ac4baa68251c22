"""Training rows: JSON lines with ``messages``, or with ``prompt`` and ``completion``."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.training.errors import DataError

ROLES = ("system", "user", "assistant")
MAX_REPORTED = 10


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


class _Problem(Exception):
    """What is wrong with one row."""


def read_rows(path: Path) -> list[Row]:
    """Reads and checks a file of rows; empty lines are skipped. Row ``i`` of the result is the ``i``-th line that is
    not empty.

    Raises:
        DataError: names the file and, for up to ten bad rows, the line, what is wrong and what to do.
        OSError: the file cannot be read.
    """
    rows, problems = [], []
    for number, line in numbered_lines(path):
        try:
            rows.append(_row(_parsed(line)))
        except _Problem as problem:
            problems.append((number, str(problem)))
    if problems:
        raise bad_rows(path, problems)
    if not rows:
        raise DataError(
            f"{path} has no rows; write one JSON object per line, with messages or with prompt and completion."
        )
    return rows


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, numbered from 1 as an editor does."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            yield number, line


def bad_rows(path: Path, problems: list[tuple[int, str]]) -> DataError:
    """One error for all bad rows of a file: (line number, what is wrong and what to do)."""
    shown = [f"{path}, line {number}: {problem}" for number, problem in problems[:MAX_REPORTED]]
    if len(problems) > MAX_REPORTED:
        shown.append(f"… and {len(problems) - MAX_REPORTED} more bad rows")
    return DataError("\n".join(shown))


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Problem(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise _Problem(f"broken JSON at column {error.colno}: {error.msg}; write one JSON object per line.") from None
    except RecursionError:
        raise _Problem("JSON nested too deeply; write one flat JSON object per line.") from None


def _row(value: Any) -> Row:
    if not isinstance(value, dict):
        raise _Problem(f"a row must be a JSON object, not {_kind(value)}.")
    if "messages" in value:
        _check_keys(value, {"messages"})
        return _conversation(value["messages"])
    if "prompt" in value or "completion" in value:
        _check_keys(value, {"prompt", "completion"})
        return Completion(prompt=_text(value, "prompt"), completion=_text(value, "completion", may_be_empty=False))
    raise _Problem("a row needs messages, or prompt and completion.")


def _conversation(messages: Any) -> Conversation:
    if not isinstance(messages, list) or not messages:
        raise _Problem(f"messages must be a list with at least one message, not {_kind(messages)}.")
    turns = tuple(_turn(message, number) for number, message in enumerate(messages, start=1))
    if not any(turn.is_learned for turn in turns):
        raise _Problem("no assistant message to learn from; add one, or remove its weight 0.")
    return Conversation(turns=turns)


def _turn(message: Any, number: int) -> Turn:
    if not isinstance(message, dict):
        raise _Problem(f"message {number} must be an object with role and content, not {_kind(message)}.")
    role = message.get("role")
    if role not in ROLES:
        raise _Problem(f"message {number} has role {role!r}; the roles are {', '.join(ROLES)}.")
    is_assistant = role == "assistant"
    _check_keys(message, {"role", "content", "weight"} if is_assistant else {"role", "content"}, f"message {number}")
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        raise _Problem(f"message {number} has weight {weight!r}; it must be 0 or 1.")
    content = _text(message, "content", f"message {number}: ", may_be_empty=not is_assistant)
    return Turn(role=role, content=content, is_learned=is_assistant and weight == 1)


def _text(value: Mapping[str, Any], key: str, where: str = "", *, may_be_empty: bool = True) -> str:
    if key not in value:
        raise _Problem(f"{where}{key} is missing.")
    text = value[key]
    if not isinstance(text, str):
        raise _Problem(f"{where}{key} must be a string, not {_kind(text)}.")
    if not text.strip() and not may_be_empty:
        raise _Problem(f"{where}{key} is empty, so there is nothing to learn; fill it or remove the row.")
    if "\0" in text:
        raise _Problem(f"{where}{key} holds a NUL character at position {text.index(chr(0)) + 1}; remove it.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _Problem(f"{where}{key} holds half a surrogate pair (\\ud800 to \\udfff); write the whole character.")
    return text


def _check_keys(value: Mapping[str, Any], known: set[str], where: str = "the row") -> None:
    unknown = sorted(set(value) - known)
    if unknown:
        raise _Problem(f"{where} has the unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}.")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
