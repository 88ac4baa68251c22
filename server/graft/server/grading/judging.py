"""Models as graders: what is asked of one, and what its answer is worth."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from graft.server.grading.graders import JudgeSampling, LabelModel, ScoreModel
from graft.server.grading.observation import Observation
from graft.server.grading.templates import Room
from graft.server.runtime.json_values import BadJson, read_json
from graft.server.runtime.violations import shown

Turns = Sequence[Mapping[str, str]]
_MAX_STEPS = 8
_STEP = {
    "type": "object",
    "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
    "required": ["description", "conclusion"],
    "additionalProperties": False,
}
# Steps before the number, so that the number follows from them.
_SCORE: dict[str, Any] = {
    "type": "object",
    "properties": {"steps": {"type": "array", "items": _STEP, "maxItems": _MAX_STEPS}, "result": {"type": "number"}},
    "required": ["steps", "result"],
    "additionalProperties": False,
}
SCORE_SCHEMA = json.dumps(_SCORE)


class NoVerdict(ValueError):
    """A model's answer that says no number of the range, and no label."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a model is asked: turns of a role and a text, and the form of its answer, a JSON schema or one of several
    texts.
    """

    model: str
    turns: tuple[tuple[str, str], ...]
    json_schema: str | None = None
    options: tuple[str, ...] = ()
    sampling: JudgeSampling = field(default_factory=JudgeSampling)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A model's answer. `finished` is False where room ran out; tokens are those of question and answer."""

    text: str
    num_tokens: int
    finished: bool = True


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What a reward model says, in its own units, and the tokens that it read."""

    reward: float
    num_tokens: int


class NoChat(ValueError):
    """An item without messages that an answer could stand behind."""


class Judge(Protocol):
    """Models by name, of the tenant that this is done for."""

    def check(self, model: str) -> None:
        """Raises what `ask` would before it waits, such as `NotFound`."""
        ...

    async def ask(self, question: Question) -> Verdict:
        """Raises `ServingError`, `EngineError` or `GraftError` where there is no answer."""
        ...

    def check_reward(self, model: str) -> None:
        """Raises what `worth` would before it waits, such as `InvalidRequest` where the model is no reward model."""
        ...

    async def worth(self, model: str, turns: Turns, answer: str) -> Worth:
        """Of an answer behind a chat. Raises as `ask` does."""
        ...


def question_of(grader: ScoreModel | LabelModel, observation: Observation, room: Room) -> Question:
    """Raises what writing a template does."""
    turns = tuple((message.role, message.content.write(observation.values, room)) for message in grader.input)
    if isinstance(grader, ScoreModel):
        return Question(model=grader.model, turns=turns, json_schema=SCORE_SCHEMA, sampling=grader.sampling)
    return Question(model=grader.model, turns=turns, options=grader.labels)


def turns_of(item: Mapping[str, Any]) -> Turns:
    """What an answer to an item stands behind: its messages, without an answer of its own. Raises `NoChat`."""
    messages = item.get("messages")
    if not isinstance(messages, list):
        raise NoChat("item.messages is missing: a reward model judges answers behind messages")
    turns = [_turn(number, one) for number, one in enumerate(messages)]
    if turns and turns[-1]["role"] == "assistant":
        turns.pop()
    if not turns:
        raise NoChat("item.messages holds nothing that an answer could stand behind")
    return turns


def _turn(number: int, message: Any) -> Mapping[str, str]:
    match message:
        case {"role": str(role), "content": str(content)}:
            return {"role": role, "content": content}
        case {"role": str(role), "content": [*parts]} if all(isinstance(one, dict) and "text" in one for one in parts):
            return {"role": role, "content": "".join(str(one["text"]) for one in parts)}
    raise NoChat(f"item.messages[{number}] is no turn with a role and a text, which a reward model reads")


def reward_of(grader: ScoreModel | LabelModel, verdict: Verdict) -> float:
    """Raises `NoVerdict`."""
    if not verdict.finished:
        raise NoVerdict(f"{grader.model} did not come to an end: raise max_completions_tokens")
    if isinstance(grader, LabelModel):
        if verdict.text not in grader.labels:
            raise NoVerdict(f"{grader.model} said none of the labels: {shown(verdict.text)}")
        return float(verdict.text in grader.passing_labels)
    score = _score(grader.model, verdict.text)
    if not grader.low <= score <= grader.high:
        raise NoVerdict(f"{grader.model} said {score:g}, outside of [{grader.low:g}, {grader.high:g}]")
    return score


def _score(model: str, text: str) -> float:
    try:
        said = read_json(text)
        score = float(said["result"])
    except (BadJson, KeyError, OverflowError, TypeError, ValueError):
        raise NoVerdict(f"{model} said no number as result: {shown(text)}") from None
    if not math.isfinite(score):
        raise NoVerdict(f"{model} said {score} as result")
    return score
