"""A training file, line by line: sound, or all that is wrong with it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from graft.server.jobs.job import Method
from graft.server.jobs.training_rows.kinds import problems_of
from graft.server.runtime.json_values import BadJson, read_json

RowProblems = Callable[[Mapping[str, Any]], Iterator[str]]
MAX_LINE_BYTES = 16 << 20
MAX_SHOWN = 20
"""So many lines are named at most; all are counted."""
MAX_PROBLEMS = 8
"""So many of a line's problems are named."""
_MAX_COUNTED = 1_000
MAX_LINE_CHARACTERS, MAX_CHARACTERS = 500, 4_000
"""Of the problems that are named of one line, and of all lines: it stands in every answer about the job."""


def judge(content: IO[bytes], method: Method, more: RowProblems = lambda row: iter(())) -> str | None:
    """What is wrong, with the numbers of lines, in one line of text; None where nothing is.

    `more` tells what is wrong with a row beside what the method says.
    """
    num_wrong, num_rows, num_characters = 0, 0, 0
    shown: list[str] = []
    for number, line in _lines(content):
        problems = _problems(line, method, more)
        num_rows += 1
        if problems:
            num_wrong += 1
            text = f"line {number}: {problems}"
            # Lines are named from the first on, without a gap.
            if len(shown) == num_wrong - 1 < MAX_SHOWN and num_characters + len(text) <= MAX_CHARACTERS:
                num_characters += len(text)
                shown.append(text)
    if not num_rows:
        return "has no row: write one JSON object a line"
    if not num_wrong:
        return None
    rest = [f"and {num_wrong - len(shown)} more lines"] if num_wrong > len(shown) else []
    return f"{num_wrong} of {num_rows} rows cannot be used: {' | '.join([*shown, *rest])}"


def _lines(content: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers, without empty ones; None for one that is too long to be read."""
    number = 0
    while line := content.readline(MAX_LINE_BYTES + 1):
        number += 1
        is_long = len(line) > MAX_LINE_BYTES
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = content.readline(MAX_LINE_BYTES + 1)
        if is_long:
            yield number, None
        elif line.strip():
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _problems(line: bytes | None, method: Method, more: RowProblems) -> str:
    """Of one line, the first of them in words; empty where there are none."""
    if line is None:
        return f"has more than {MAX_LINE_BYTES} bytes, the limit of a row"
    try:
        row = _object(line.decode())
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {error.start}"
    except BadJson as error:
        return str(error)
    found = itertools.chain(problems_of(row, method), more(row))
    named = "; ".join(itertools.islice(found, MAX_PROBLEMS))
    num_more = sum(1 for _ in itertools.islice(found, _MAX_COUNTED))
    least = "at least " if num_more == _MAX_COUNTED else ""
    return _cut(named, MAX_LINE_CHARACTERS) + (f"; and {least}{num_more} more problems" if num_more else "")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _object(text: str) -> dict[str, Any]:
    value = read_json(text)
    if not isinstance(value, dict):
        raise BadJson(f"is {json.dumps(value)[:40]}; a row is a JSON object")
    return value
