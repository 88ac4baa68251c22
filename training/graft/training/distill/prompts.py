"""What a teacher is asked: the prompts of a file of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.adapters.text.problems import BadLine
from graft.adapters.text.rows import read_rows
from graft.training.errors import DataError, of_data

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class Question:
    """``asked`` is a text to be continued, or a chat that ends with a user's turn."""

    asked: str | list[dict[str, str]]

    def answered(self, answer: str) -> Mapping[str, Any]:
        """A row to learn the answer from."""
        if isinstance(self.asked, str):
            return {"prompt": self.asked, "completion": answer}
        return {"messages": [*self.asked, {"role": "assistant", "content": answer}]}


def read_questions(path: Path) -> list[Question]:
    """Of rows with ``prompt`` or ``messages``; a completion, and an assistant's last turn, are what the teacher is to
    write. Raises ``DataError`` with all bad rows.
    """
    found = [question for _, question in of_data(read_rows, path, _question)]
    if not found:
        raise DataError(f"{path} has no rows; write one JSON object per line, with prompt or with messages.")
    return found


def _question(value: Any) -> Question:
    if isinstance(value, dict) and isinstance(value.get("prompt"), str) and value["prompt"]:
        return Question(asked=value["prompt"])
    turns = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(turns, list) or not all(_is_turn(turn) for turn in turns):
        raise BadLine("a row needs a prompt that is a text, or messages with role and content.")
    if turns and turns[-1]["role"] == "assistant":
        turns = turns[:-1]
    if not turns or turns[-1]["role"] != "user":
        raise BadLine("the turn before the answer must be a user's.")
    return Question(asked=[{"role": turn["role"], "content": turn["content"]} for turn in turns])


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") in _ROLES and isinstance(turn.get("content"), str)
