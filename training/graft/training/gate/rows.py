"""Rows of a job's files, in OpenAI's words, as what is asked and what is the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.training.errors import DataError

Turns = tuple[Mapping[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A prompt, as a text or as turns, and its answer; None where the row has none, as those of reinforcement.

    ``item`` is the row as it stands, for graders.
    """

    line: int
    prompt: str | Turns
    answer: str | None
    item: Mapping[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """What is asked, without the instructions that all rows may share."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(turn["content"] for turn in self.prompt if turn["role"] not in ("system", "developer"))


def read_rows(path: Path) -> list[Row]:
    """Those that are text; rows with calls of tools are left out: scores over the wire know none.

    Raises DataError for a line that is no row, and where no row is left.
    """
    found = [row for row in _rows(path) if row is not None]
    if not found:
        raise DataError(f"{path.name} has no row of text that could be asked: give rows whose messages are texts.")
    return found


def read_learned(path: Path) -> list[Row]:
    """What was learned from, for what it asks: of a row that is more than text what its users say in words.

    Raises DataError for a line that is no row.
    """
    return [row for row in _rows(path, make=_learned) if row is not None]


def _rows(path: Path, *, make: Callable[[int, Mapping[str, Any]], Row | None] | None = None) -> Iterator[Row | None]:
    make = make or _row
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield make(number, json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise DataError(f"{path.name}, line {number}: is no row of a job ({error}).") from None


def _row(line: int, item: Mapping[str, Any]) -> Row | None:
    if "preferred_output" in item:
        turns, answer = _turns(item["input"]["messages"]), _turns(item["preferred_output"])
        if turns is None or answer is None:
            return None
        return Row(line=line, prompt=turns, answer=answer[-1]["content"], item=item)
    if "messages" not in item:
        return Row(line=line, prompt=str(item["prompt"]), answer=str(item["completion"]), item=item)
    all_turns = _turns(item["messages"])
    if all_turns is None:
        return None
    if all_turns[-1]["role"] != "assistant":
        return Row(line=line, prompt=all_turns, answer=None, item=item)
    return Row(line=line, prompt=all_turns[:-1], answer=all_turns[-1]["content"], item=item)


def _learned(line: int, item: Mapping[str, Any]) -> Row | None:
    if (row := _row(line, item)) is not None:
        return row
    messages = item["input"]["messages"] if "preferred_output" in item else item["messages"]
    said = [turns for one in messages if one.get("role") == "user" and (turns := _turns([one])) is not None]
    if not said:
        return None
    return Row(line=line, prompt=tuple(turn for turns in said for turn in turns), answer=None, item=item)


def _turns(messages: Sequence[Mapping[str, Any]]) -> Turns | None:
    """None where one of them is more than text."""
    turns = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list) and all("text" in part for part in content):
            content = "".join(str(part["text"]) for part in content)
        if not isinstance(content, str) or message.get("tool_calls") or message.get("function_call"):
            return None
        turns.append({"role": str(message["role"]), "content": content})
    return tuple(turns)
