"""Rows of a data set as questions with right answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.client import PromptLike


@dataclass(frozen=True, kw_only=True)
class Example:
    """What is asked and what is right. `prompt` is text to continue or chat turns."""

    prompt: str | tuple[dict[str, str], ...]
    answer: str

    @property
    def shown(self) -> str:
        """The prompt for people: the last turn of a chat."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[-1]["content"]

    @property
    def turns(self) -> list[dict[str, str]]:
        """The prompt as chat turns."""
        return [{"role": "user", "content": self.prompt}] if isinstance(self.prompt, str) else list(self.prompt)

    @property
    def request(self) -> PromptLike:
        """The prompt as the client takes it."""
        return self.prompt

    def is_answered_by(self, text: str) -> bool:
        """Whether `text` is the right answer, spaces at its ends aside."""
        return text.strip() == self.answer.strip()


def read_examples(path: Path) -> list[Example]:
    """The rows of a JSON-lines file as examples."""
    return [_example(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _example(row: dict[str, Any]) -> Example:
    if "messages" in row:
        *asked, answered = row["messages"]
        turns = tuple({"role": turn["role"], "content": turn["content"]} for turn in asked)
        return Example(prompt=turns, answer=answered["content"])
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str):
        return Example(prompt=prompt, answer=completion)
    return Example(prompt=tuple(dict(turn) for turn in prompt), answer=completion[-1]["content"])


def num_right(examples: Sequence[Example], answers: Sequence[str]) -> int:
    """How many answers are right."""
    return sum(example.is_answered_by(answer) for example, answer in zip(examples, answers, strict=True))
