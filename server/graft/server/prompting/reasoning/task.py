"""What is reasoned about, how it grows, and what comes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from graft.server.prompting.asking import Written
from graft.server.prompting.program.program import Decoding, Extraction, Output, Reasoning
from graft.server.prompting.reasoning.votes import Vote

Accept = Callable[[str], None]
"""Raises where the answer may not be given, as where its claims have no source."""
Choose = Callable[[Written], Awaitable[str]]
"""One of the choices, after a prompt whose answer may have begun with a rationale."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A written prompt, and how its answer is come by. `decoding.max_tokens` is of each stage of each path.

    `shows_rationales`: the prompt's demonstrations do. `choose` decides between choices, where the output is one.
    `choosing_tokens`: by how many a prompt that it asks may be longer than `prompt`. With `accept` nothing of the
    answer is told before it is accepted.
    """

    prompt: Written
    reasoning: Reasoning = field(default_factory=Reasoning)
    output: Output = field(default_factory=Output)
    extraction: Extraction = field(default_factory=Extraction)
    decoding: Decoding = field(default_factory=Decoding)
    shows_rationales: bool = False
    choose: Choose | None = None
    choosing_tokens: int = 0
    accept: Accept | None = None


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What answer and rationale grew by."""

    answer: str = ""
    rationale: str = ""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One path at its end. `said` is all that stands after the prompt; `logprob` is of `num_scored` tokens."""

    said: str
    answer: str
    rationale: str = ""
    answer_tokens: int = 0
    logprob: float = 0.0
    num_scored: int = 0
    finished: bool = True


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Generated tokens. What is not the answer's own is the reasoning's: rationales, other paths, tries before."""

    answer_tokens: int
    total_tokens: int

    @property
    def reasoning_tokens(self) -> int:
        return self.total_tokens - self.answer_tokens


@dataclass(frozen=True, kw_only=True)
class Reasoned:
    """The end of a run. `finished` is False where the answer ran out of room; `rationale` is empty where withheld."""

    answer: str
    rationale: str
    votes: tuple[Vote, ...]
    cost: Cost
    finished: bool
    notices: tuple[str, ...]
