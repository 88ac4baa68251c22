"""A model whose answers are written beforehand; each character is a token."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from graft.server.engine.engine import ContinuationScore, TokenLogprob
from graft.server.errors import BadInput, Violation
from graft.server.prompting.asking import Path, Piece, Written
from graft.server.prompting.program.program import Decoding, Output


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One call of `ask`."""

    prompt: str
    decoding: Decoding
    num_paths: int
    output: Output | None
    with_logprob: bool


def whole(prompt: Written) -> str:
    """A prompt as one text; turns are written `<role>content`."""
    turns = "".join(f"<{turn.role}>{turn.content}" for turn in prompt.turns)
    return (prompt.text or turns) + prompt.begun


class ScriptedAsker:
    """`says` is from the prompt's text and a path's index to what is said; `likes` to a continuation's probability.

    All paths grow by `step` characters in turn. `given_up` are the indices of the paths that the caller closed.
    """

    def __init__(
        self,
        says: Callable[[str, int], str],
        *,
        likes: Callable[[str, str], float] = lambda prompt, continuation: 0.5,
        max_model_tokens: int = 10_000,
        step: int = 3,
    ) -> None:
        self._says = says
        self._likes = likes
        self._max_model_tokens = max_model_tokens
        self._step = step
        self.asked: list[Asked] = []
        self.scored: list[str] = []
        self.num_generated = 0
        self.given_up: list[int] = []

    async def ask(
        self,
        prompt: Written,
        decoding: Decoding,
        *,
        num_paths: int = 1,
        output: Output | None = None,
        with_logprob: bool = False,
    ) -> AsyncGenerator[Piece, None]:
        text = whole(prompt)
        room = self._max_model_tokens - len(text)
        limit = min(room, decoding.max_tokens or room)
        if limit < 1:
            raise BadInput(Violation(field="prompt", problem=f"{len(text)} tokens do not fit"))
        self.asked.append(
            Asked(prompt=text, decoding=decoding, num_paths=num_paths, output=output, with_logprob=with_logprob)
        )
        paths = [self._path(text, index, decoding, limit, with_logprob) for index in range(num_paths)]
        under_way = dict.fromkeys(range(num_paths), 0)
        try:
            while under_way:
                for index in list(under_way):
                    path, told = paths[index], under_way[index]
                    grown = path.text[told : told + self._step]
                    under_way[index] += len(grown)
                    is_last = under_way[index] == len(path.text)
                    if is_last:
                        del under_way[index]
                    await asyncio.sleep(0)
                    self.num_generated += len(grown)
                    yield Piece(index=index, text=grown, num_tokens=len(grown), path=path if is_last else None)
        finally:
            self.given_up += list(under_way)

    def _path(self, text: str, index: int, decoding: Decoding, limit: int, with_logprob: bool) -> Path:
        said = self._says(text, index)
        for stop in decoding.stop or ():
            said = said.split(stop, 1)[0]
        logprob = math.log(self._likes(text, said)) * min(len(said), limit) if with_logprob else 0.0
        return Path(text=said[:limit], num_tokens=len(said[:limit]), logprob=logprob, finished=len(said) <= limit)

    async def score(self, prompt: Written, continuations: Sequence[str]) -> list[ContinuationScore]:
        text = whole(prompt)
        if (longest := len(text) + max(map(len, continuations))) > self._max_model_tokens - 1:
            raise BadInput(Violation(field="variables", problem=f"make a prompt of {longest} tokens with its choices"))
        self.scored.append(text)
        await asyncio.sleep(0)
        likes = [self._likes(text, continuation) for continuation in continuations]
        return [
            ContinuationScore(
                tokens=(
                    TokenLogprob(
                        token_id=zlib.crc32(continuation.encode()), token=continuation, logprob=math.log(like)
                    ),
                ),
                is_greedy=False,
            )
            for continuation, like in zip(continuations, likes, strict=True)
        ]

    async def num_tokens(self, prompt: Written) -> int:
        return len(whole(prompt))

    @property
    def max_model_tokens(self) -> int:
        return self._max_model_tokens
