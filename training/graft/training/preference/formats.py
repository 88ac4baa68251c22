"""Rows that say which answers are preferred, in TRL's formats and OpenAI's, as the rows of answers that they hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.adapters.text.problems import BadLine
from graft.training.batch.rows.fields import check_keys, kind_of, list_of, object_of
from graft.training.batch.rows.formats import row_of
from graft.training.batch.rows.messages import BESIDE
from graft.training.batch.rows.row import Row

_PAIR = frozenset({"prompt", "chosen", "rejected", "margin", *BESIDE})
_OPENAI = frozenset({"input", "preferred_output", "non_preferred_output"})
_JUDGED = frozenset({"prompt", "completion", "label", *BESIDE})
_HH = "\n\nHuman:"
_PAIRS_SAID = "prompt, chosen and rejected, or input, preferred_output and non_preferred_output"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two answers to the same."""

    chosen: Row
    rejected: Row
    margin: float | None = None
    """By how much a reward model is to prefer the chosen one."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One answer, and whether it is good."""

    answer: Row
    is_desirable: bool


def pair_of(value: Any) -> Pair:
    """A JSON value as a pair; null is absence. Raises ``BadLine``."""
    row = object_of(value, "a row")
    if "input" in row or "preferred_output" in row:
        return _openai(row)
    missing = [name for name in ("chosen", "rejected") if name not in row]
    if "label" in row and missing:
        raise BadLine("it is one answer with a label; pairs are needed here, loss_type kto takes labels.")
    if missing:
        raise BadLine(f"{missing[0]} is missing: a row of preferences needs {_PAIRS_SAID}.")
    check_keys(row, _PAIR)
    chosen, rejected, margin = row["chosen"], row["rejected"], _margin(row.get("margin"))
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _of_texts(row, chosen, rejected, margin)
    both = _Answers(chosen=_messages(chosen, "chosen"), rejected=_messages(rejected, "rejected"))
    return both.pair(_prompt(row.get("prompt"), both), row, margin)


def judged_of(value: Any) -> Sequence[Judged]:
    """A JSON value as an answer with a label, or as the two of a pair. Raises ``BadLine``."""
    row = object_of(value, "a row")
    if "label" not in row and not {"completion", "prompt"} >= set(row):
        pair = pair_of(row)
        return Judged(answer=pair.chosen, is_desirable=True), Judged(answer=pair.rejected, is_desirable=False)
    check_keys(row, _JUDGED)
    if missing := [name for name in ("prompt", "completion", "label") if name not in row]:
        raise BadLine(f"{missing[0]} is missing: a row needs prompt, completion and label, or is a pair.")
    label = row.pop("label")
    if not isinstance(label, bool):
        raise BadLine(f"label is {label!r}; it must be true (a good answer) or false.")
    if isinstance(row["prompt"], list):
        answer = _one_answer(_messages(row["completion"], "completion"), "completion")
        said = _conversation([*_messages(row["prompt"], "prompt"), answer], row)
        return (Judged(answer=said, is_desirable=label),)
    return (Judged(answer=row_of(row), is_desirable=label),)


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """Messages of two answers; the prompt may be before each."""

    chosen: Sequence[Any]
    rejected: Sequence[Any]

    @property
    def shared(self) -> Sequence[Any]:
        """The messages in which both begin."""
        both = zip(self.chosen, self.rejected, strict=False)
        num = next((number for number, (one, other) in enumerate(both) if one != other), len(self.rejected))
        return self.chosen[: min(num, len(self.chosen))]

    def pair(self, prompt: Sequence[Any], row: Mapping[str, Any], margin: float | None) -> Pair:
        num = len(self.shared)
        if num == max(len(self.chosen), len(self.rejected)):
            raise BadLine("chosen and rejected are equal, so neither is preferred; remove the row.")
        before = [*prompt, *self.shared]
        made = [
            _conversation([*before, _one_answer(answer[num:], name)], row)
            for name, answer in (("chosen", self.chosen), ("rejected", self.rejected))
        ]
        return Pair(chosen=made[0], rejected=made[1], margin=margin)


def _openai(row: Mapping[str, Any]) -> Pair:
    check_keys(row, _OPENAI)
    if missing := sorted(_OPENAI - set(row)):
        raise BadLine(f"{missing[0]} is missing: a row of preferences needs {_PAIRS_SAID}.")
    asked = object_of(row["input"], "input")
    check_keys(asked, {"messages", *BESIDE}, "input")
    both = _Answers(
        chosen=_messages(row["preferred_output"], "preferred_output"),
        rejected=_messages(row["non_preferred_output"], "non_preferred_output"),
    )
    return both.pair(_messages(asked.get("messages"), "input.messages"), asked, None)


def _prompt(prompt: Any, both: _Answers) -> Sequence[Any]:
    """Messages before both answers. Some rows give the first one's text, with which both begin anyway."""
    if prompt is None:
        return ()
    if not isinstance(prompt, str):
        return _messages(prompt, "prompt")
    if prompt in [one.get("content") for one in both.shared if isinstance(one, dict)]:
        return ()
    return ({"role": "user", "content": prompt},)


def _of_texts(row: Mapping[str, Any], chosen: str, rejected: str, margin: float | None) -> Pair:
    if beside := sorted(BESIDE & set(row)):
        raise BadLine(f"it has {beside[0]}, which goes with messages; give chosen and rejected as lists of messages.")
    if chosen == rejected:
        raise BadLine("chosen and rejected are equal, so neither is preferred; remove the row.")
    if "prompt" in row:
        prompt = row["prompt"]
        if not isinstance(prompt, str):
            raise BadLine(f"prompt must be a string as chosen and rejected are, not {kind_of(prompt)}.")
    elif chosen.startswith(_HH) and rejected.startswith(_HH):
        raise BadLine("it is a conversation as hh-rlhf writes one; `graft corpus hh-rlhf` makes messages of it.")
    else:
        prompt = chosen[: _seam(chosen, rejected)]
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        if not chosen.strip() or not rejected.strip():
            raise BadLine("one of chosen and rejected is the beginning of the other; say where the prompt ends.")
    made = [row_of({"prompt": prompt, "completion": answer}) for answer in (chosen, rejected)]
    return Pair(chosen=made[0], rejected=made[1], margin=margin)


def _seam(one: str, other: str) -> int:
    """Where two texts part, before the word in which they do and the blank before it (TRL parts within words)."""
    both = zip(one, other, strict=False)
    at = next((place for place, (own, its) in enumerate(both) if own != its), min(len(one), len(other)))
    while at and one[at - 1].isalnum() and (one[at : at + 1] + other[at : at + 1]).strip().isalnum():
        at -= 1
    return at - 1 if at and one[at - 1] == " " else at


def _messages(value: Any, what: str) -> list[Any]:
    return list_of(value, what)


def _one_answer(messages: Sequence[Any], name: str) -> Any:
    if len(messages) != 1 or not isinstance(messages[0], dict) or messages[0].get("role") != "assistant":
        raise BadLine(
            f"{name} has {len(messages)} messages of its own; an answer is one message of the assistant, behind what "
            "was said before."
        )
    return {key: one for key, one in messages[0].items() if key != "weight"}


def _conversation(messages: Sequence[Any], row: Mapping[str, Any]) -> Row:
    """Of which the last message alone is learned."""
    before = [
        {**one, "weight": 0} if isinstance(one, dict) and one.get("role") == "assistant" else one
        for one in messages[:-1]
    ]
    beside = {key: row[key] for key in BESIDE if key in row}
    return row_of({"messages": [*before, messages[-1]], **beside})


def _margin(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadLine(f"margin is {value!r}; it must be a number.")
    return float(value)
