"""Who is asked in an evaluation, and what of it: answers to a prompt, or the log-probabilities of given ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from graft.client import InvalidArgument


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a chat."""

    role: str
    content: str


Prompt = str | tuple[Turn, ...]
"""A text to be continued, or a chat to be answered."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question as it is put: written out for a base or adapter, and as variables for a prompt program."""

    prompt: Prompt
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How answers are drawn. `temperature` 0 is greedy; `json_schema` is a schema that each answer follows."""

    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int | None = None
    num_paths: int = 1
    json_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One continuation: its natural log-probability, and whether greedy decoding would say it."""

    logprob: float
    is_greedy: bool


class Model(Protocol):
    """A base, an adapter or a prompt program."""

    @property
    def name(self) -> str:
        """As the user wrote it."""
        ...

    def say(self, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
        """`decoding.num_paths` answers. Raises `Refused` for a question that cannot be asked, `Unanswered` where what
        the model said is no answer.
        """
        ...

    def score(self, asked: Asked, continuations: Sequence[str]) -> tuple[Scored, ...]:
        """Each continuation after the prompt. Raises `Refused` for a question that cannot be asked."""
        ...


class Unanswered(Exception):
    """The model was asked, and the server found no answer in what it said."""


class Refused(Exception):
    """The server does not take this one question, most often because it is longer than the context."""

    @classmethod
    def by(cls, error: InvalidArgument) -> Refused:
        """The first thing that the server says, and how many more there are."""
        if len(error.violations) < 2:
            return cls(str(error))
        return cls(f"{error.violations[0]} (and {len(error.violations) - 1} more)")
