"""What can be wrong with a file of text, told by file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

MAX_REPORTED = 10
MAX_NUMBERED = 20
"""Of the lines behind those."""

Raw = TypeVar("Raw")
Parsed = TypeVar("Parsed")


class UnreadableText(ValueError):
    """A file cannot be used as it is; one line for each thing that is wrong, with the file, the line and the remedy."""

    exit_code = 2


class BadLine(Exception):
    """What is wrong with one line, and what to do about it."""


def unreadable(
    path: Path, problems: Sequence[tuple[int, str]], num: int | None = None, *, unit: str = "line"
) -> UnreadableText:
    """One error for all bad lines of a file: (line number, what is wrong and what to do); of many their numbers.

    Where ``problems`` are the first of more, ``num`` is how many there are in all. ``unit`` is what is numbered.
    """
    shown = [f"{path}, {unit} {number}: {problem}" for number, problem in problems[:MAX_REPORTED]]
    num_others = (len(problems) if num is None else num) - MAX_REPORTED
    if num_others > 0:
        others = [str(number) for number, _ in problems[MAX_REPORTED:]]
        numbers = ", ".join(others[:MAX_NUMBERED]) + (" …" if num_others > MAX_NUMBERED else "")
        shown.append(f"… and {num_others} more bad {unit}s in {path}, in {unit}s {numbers}")
    return UnreadableText("\n".join(shown))


def parsed(
    path: Path, lines: Iterable[tuple[int, Raw]], parse: Callable[[Raw], Parsed], *, unit: str = "line"
) -> list[tuple[int, Parsed]]:
    """Every numbered line parsed. Raises ``UnreadableText`` with all that are bad; ``unit`` is what is numbered."""
    found, problems = sorted_out(lines, parse)
    if problems:
        raise unreadable(path, problems, unit=unit)
    return found


def sorted_out(
    lines: Iterable[tuple[int, Raw]], parse: Callable[[Raw], Parsed]
) -> tuple[list[tuple[int, Parsed]], list[tuple[int, str]]]:
    """Every numbered line parsed, and what is wrong with those that cannot be."""
    found, problems = [], []
    for number, line in lines:
        try:
            found.append((number, parse(line)))
        except BadLine as problem:
            problems.append((number, str(problem)))
    return found, problems


def check_characters(text: str) -> None:
    """Raises ``BadLine`` for what no tokenizer and no reply can hold: NUL, and halves of surrogate pairs."""
    if "\0" in text:
        raise BadLine(f"NUL character at position {text.index(chr(0)) + 1}; remove it, or save the file as UTF-8.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadLine(
            f"half a surrogate pair (\\u{ord(text[error.start]):04x}) at position {error.start + 1}; write the whole "
            "character."
        ) from None
