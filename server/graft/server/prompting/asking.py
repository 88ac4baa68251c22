"""What a program asks of a model: a prompt as it is written out, and answers to it. Implemented over `Serving`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from graft.server.engine.engine import ContinuationScore
from graft.server.prompting.program.program import Decoding, Output


@dataclass(frozen=True, kw_only=True)
class WrittenTurn:
    """A turn of a chat as the model reads it."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Written:
    """A prompt as it is written out: a text, or turns. `begun` is what the answer begins with already."""

    text: str | None = None
    turns: tuple[WrittenTurn, ...] = ()
    begun: str = ""

    def going_on(self, said: str) -> Written:
        """The same prompt, its answer begun with what was said."""
        return replace(self, begun=self.begun + said)


@dataclass(frozen=True, kw_only=True)
class Path:
    """One answer. `logprob` is the natural log-probability of its tokens, 0 where it was not asked for; `finished` is
    False where room ran out.
    """

    text: str
    num_tokens: int
    logprob: float
    finished: bool


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one path grew by, and in how many tokens; the last one of a path has the whole."""

    index: int
    text: str
    num_tokens: int = 0
    path: Path | None = None


class Asker(Protocol):
    """A model within one admitted request: everything asked is answered by the same adapter version."""

    def ask(
        self,
        prompt: Written,
        decoding: Decoding,
        *,
        num_paths: int = 1,
        output: Output | None = None,
        with_logprob: bool = False,
    ) -> AsyncGenerator[Piece, None]:
        """The paths as they grow, sharing the prompt's computation. Closing it ends those under way.

        `output` is the contract that each follows. Raises `BadInput` where the prompt does not fit.
        """
        ...

    async def score(self, prompt: Written, continuations: Sequence[str]) -> list[ContinuationScore]:
        """Log-probabilities of each continuation, sharing the prompt's computation."""
        ...

    async def num_tokens(self, prompt: Written) -> int:
        """How many tokens the prompt has."""
        ...

    @property
    def max_model_tokens(self) -> int:
        """The context's length."""
        ...
