"""Self-consistency: sampled paths, computed from one prompt, that vote (Wang et al. 2022, arXiv:2203.11171)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from graft.server.errors import BadInput, NoAnswer
from graft.server.prompting.asking import Path
from graft.server.prompting.reasoning.method import Method, Opening
from graft.server.prompting.reasoning.talk import Talk
from graft.server.prompting.reasoning.task import Ended
from graft.server.prompting.reasoning.votes import Ballot, Vote, as_number, as_text, is_decided, path_weight, tally


async def poll(talk: Talk, method: Method, num_paths: int) -> tuple[Ended, tuple[Vote, ...]]:
    """The first path that gave the answer which most give, and all votes, the winner's first.

    Paths without an answer, or with one that cannot be used, do not vote. Raises `NoAnswer` where none has one, or the
    `BadInput` of the first path.
    """
    return await _Poll(talk, method, num_paths).held()


class _Poll:
    def __init__(self, talk: Talk, method: Method, num_paths: int) -> None:
        self._talk = talk
        self._method = method
        self._num_paths = num_paths
        self._share = talk.share(num_paths)
        self._is_weighted = talk.task.reasoning.vote == "weighted"
        reads_numbers = talk.task.extraction.method == "last_number"
        computes = talk.task.reasoning.method == "program_of_thought"
        self._same = as_number if reads_numbers or computes else as_text
        self._waiting = set(range(num_paths))
        self._ended: dict[int, Ended] = {}
        self._without: dict[int, NoAnswer | BadInput] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def held(self) -> tuple[Ended, tuple[Vote, ...]]:
        opening = await self._method.opening(self._share)
        try:
            async with asyncio.TaskGroup() as group:
                self._begin(group, opening)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        votes = self._votes()
        if not votes:
            first = self._without[min(self._without)]
            if isinstance(first, BadInput):
                raise first
            problem = f"none of {self._num_paths} paths has an answer; of the first, {first.problem}"
            raise NoAnswer(problem, said=first.said)
        if self._waiting:
            self._talk.note(
                f"the vote was decided after {self._num_paths - len(self._waiting)} of {self._num_paths} paths"
            )
        if self._without:
            self._talk.note(f"{len(self._without)} of {self._num_paths} paths had no answer and did not vote")
        return self._ended[votes[0].first_path], votes

    def _begin(self, group: asyncio.TaskGroup, opening: Opening) -> None:
        self._tasks.add(group.create_task(self._read(group, opening)))

    async def _read(self, group: asyncio.TaskGroup, opening: Opening) -> None:
        """Each path is brought to its end as soon as its opening is there, while others are under way."""
        pieces = self._talk.ask(
            opening.prompt,
            limit=opening.limit,
            num_paths=self._num_paths,
            output=opening.output,
            with_logprob=self._is_weighted,
        )
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.path is not None:
                    self._tasks.add(group.create_task(self._end(opening, piece.index, piece.path)))

    async def _end(self, opening: Opening, index: int, path: Path) -> None:
        left = None if self._share is None else self._share - path.num_tokens
        events = self._method.finish(opening, path, left)
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Ended):
                        self._ended[index] = event
        except (NoAnswer, BadInput) as error:
            self._without[index] = error
        self._waiting.discard(index)
        if self._talk.task.reasoning.stop_early and is_decided(self._votes(), self._waiting):
            for task in self._tasks - {asyncio.current_task()}:
                task.cancel()

    def _votes(self) -> tuple[Vote, ...]:
        return tally((self._ballot(index, ended) for index, ended in self._ended.items()), self._same)

    def _ballot(self, index: int, ended: Ended) -> Ballot:
        weight = path_weight(ended.logprob, ended.num_scored) if self._is_weighted else 1.0
        return Ballot(index=index, answer=ended.answer, weight=weight)
