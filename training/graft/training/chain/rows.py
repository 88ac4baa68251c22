"""One file of preferences as the files of all stages, in OpenAI's words: rows of a held-out prompt are learned by none.

A job may be told of held-out rows to measure by; only what is learned from decides what it makes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from graft.adapters.text.problems import BadLine
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.order import shuffled
from graft.training.batch.packing import Encoded
from graft.training.batch.rows.reading import read_values
from graft.training.errors import DataError
from graft.training.preference.formats import pair_of

_MIN_ROWS = 2
_ASSISTANT: Final = "assistant"
Row = Mapping[str, Any]
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Preferred:
    """Two answers to the same messages."""

    messages: Messages
    chosen: Mapping[str, Any]
    rejected: Mapping[str, Any]

    @property
    def pair(self) -> Row:
        """What a reward model learns from."""
        asked = {"input": {"messages": self.messages}}
        return {**asked, "preferred_output": [self.chosen], "non_preferred_output": [self.rejected]}

    @property
    def answered(self) -> Row:
        """What is learned by imitation: the chosen answer alone."""
        before = [{**one, "weight": 0} if one["role"] == _ASSISTANT else one for one in self.messages]
        return {"messages": [*before, self.chosen]}

    @property
    def question(self) -> Row:
        """What a policy is asked."""
        return {"messages": self.messages}

    @property
    def prompt(self) -> str:
        """The same for the same messages."""
        return json.dumps(self.messages, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is learned and what is held out."""

    learned: Sequence[Preferred]
    held_out: Sequence[Preferred]
    num_long: int
    """That are too long, or whose prompt leaves no room for an answer: left out."""

    @classmethod
    def read(
        cls, path: Path, encoder: RowEncoder, *, max_tokens: int, max_answer: int, held_out: float, seed: int
    ) -> Self:
        """Rows of at most so many tokens, whose prompts leave room for an answer; all rows of one prompt go the same
        way. Raises ``DataError`` with every row that is none, ``ConfigurationError`` where the base has no chat
        template.
        """

        def measured(value: Any) -> tuple[Preferred, bool]:
            row = _preferred(value)
            pair = pair_of(dict(row.pair))
            examples = [encoder.examples(one)[-1] for one in (pair.chosen, pair.rejected)]
            longest = max(len(one.input_ids) for one in examples)
            return row, longest <= max_tokens and _num_prompt(examples[0]) + max_answer <= max_tokens

        found = [one for _, one in read_values(path, measured)]
        short = [row for row, is_short in found if is_short]
        prompts = list(dict.fromkeys(row.prompt for row in short))
        num = round(held_out * len(prompts))
        if min(num, len(prompts) - num) < _MIN_ROWS:
            raise DataError(
                f"{path} has {len(found)} rows, {len(short)} of them of {max_tokens} tokens or less with room for an "
                f"answer of {max_answer}, and {len(prompts)} such prompts: both what is learned and what is held out "
                f"need {_MIN_ROWS} or more. Give more rows."
            )
        order = shuffled(len(prompts), f"held out/{seed}")
        kept = {prompts[number] for number in order[:num]}
        return cls(
            learned=[row for row in short if row.prompt not in kept],
            held_out=[row for row in short if row.prompt in kept],
            num_long=len(found) - len(short),
        )


def as_file(rows: Iterable[Preferred], form: Callable[[Preferred], Row]) -> bytes:
    """Lines of JSON."""
    return b"".join(json.dumps(form(row), ensure_ascii=False).encode() + b"\n" for row in rows)


def _num_prompt(example: Encoded) -> int:
    return list(example.supervised).index(True)


def _preferred(value: Any) -> Preferred:
    if not isinstance(value, dict) or {"prompt", "chosen", "rejected"} - set(value):
        raise BadLine("a chain learns from rows with prompt, chosen and rejected, and it is none.")
    prompt, answers = value["prompt"], (value["chosen"], value["rejected"])
    if isinstance(prompt, str) and prompt and all(isinstance(one, str) and one for one in answers):
        chosen, rejected = ({"role": _ASSISTANT, "content": one} for one in answers)
        return Preferred(messages=[{"role": "user", "content": prompt}], chosen=chosen, rejected=rejected)
    if _are_turns(prompt) and prompt[-1]["role"] != _ASSISTANT and all(_is_answer(one) for one in answers):
        return Preferred(messages=prompt, chosen=answers[0][0], rejected=answers[1][0])
    raise BadLine(
        "prompt, chosen and rejected must be texts, or messages of text that the assistant is to answer, and one of "
        "its own each."
    )


def _are_turns(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(one, dict) and isinstance(one.get("content"), str) and "role" in one for one in value)


def _is_answer(value: Any) -> bool:
    return _are_turns(value) and len(value) == 1 and value[0]["role"] == _ASSISTANT
