"""One run's asking: every question goes through here, so that tokens are counted and kept within the budget."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from graft.server.errors import BadInput, NoAnswer, Violation
from graft.server.prompting.asking import Asker, Path, Piece, Written
from graft.server.prompting.program.program import Decoding, Output
from graft.server.prompting.reasoning.task import Task

ANSWER_TOKENS = 64
"""Kept for the answer after a rationale, or a quarter of what there is where that is less."""
PATHS_TEMPERATURE = 0.7
"""Of paths that vote, where none is given (Wang et al. 2022, section 3.1, for models that sample from all tokens)."""


def paths_temperature(decoding: Decoding, num_paths: int) -> float | None:
    """What is asked for, where paths that vote are sampled whether it is said or not."""
    return PATHS_TEMPERATURE if num_paths > 1 and decoding.temperature is None else decoding.temperature


class Talk:
    """A model, a task, and what was spent on it."""

    def __init__(self, asker: Asker, task: Task) -> None:
        self.asker = asker
        self.task = task
        self.decoding = task.decoding
        self.spent_tokens = 0
        self.notices: dict[str, None] = {}
        self._choice_tokens: int | None = None

    def share(self, num_paths: int) -> int | None:
        """What each of so many paths may take of the budget that is left. Raises `BadInput` where that is nothing."""
        budget = self.task.reasoning.max_tokens
        if budget is None:
            return None
        share = (budget - self.spent_tokens) // num_paths
        if share < 1:
            raise BadInput(
                Violation(
                    field="reasoning.max_tokens",
                    problem=f"{budget} tokens, {self.spent_tokens} of them spent, are too few for {num_paths} path(s): "
                    "raise it, or ask for fewer paths",
                )
            )
        return share

    async def free_tokens(self, prompt: Written, left: int | None) -> int:
        """How many tokens the model may write after the prompt and still have room for the answer.

        Raises `BadInput` where the context has no room for any; less than 1 where the budget has none.
        """
        num_tokens = await self.asker.num_tokens(prompt)
        free = await self._free_of_context(num_tokens)
        if free < 1:
            raise BadInput(
                Violation(
                    field="prompt",
                    problem=f"has {num_tokens} tokens, which leaves no room to reason in a context of "
                    f"{self.asker.max_model_tokens}: shorten it, or show fewer demonstrations",
                )
            )
        return free if left is None else min(free, self._without_answer(left))

    async def spare_tokens(self, prompt: Written, left: int | None) -> int:
        """As `free_tokens`; where there is no room it is less than 1."""
        free = await self._free_of_context(await self.asker.num_tokens(prompt))
        return free if left is None else min(free, self._without_answer(left))

    async def _free_of_context(self, num_tokens: int) -> int:
        instruction = await self.asker.num_tokens(Written(text="\n" + self.task.reasoning.answer_instruction))
        available = self.asker.max_model_tokens - num_tokens - instruction
        if self.task.output.type == "choices":
            return available - await self._choosing_tokens()
        return self._without_answer(available)

    async def check_room_to_choose(self, prompt: Written) -> None:
        """Raises `NoAnswer` where the context has no room to compare the choices after the prompt."""
        num_tokens, needed = await self.asker.num_tokens(prompt), await self._choosing_tokens()
        if num_tokens + needed > self.asker.max_model_tokens:
            raise NoAnswer(
                f"the reasoning makes a prompt of {num_tokens} tokens, and comparing the choices takes {needed} more; "
                f"the context holds {self.asker.max_model_tokens}: lower decoding.max_tokens, or show less"
            )

    async def _choosing_tokens(self) -> int:
        """Of what is put behind a prompt to compare the choices: the longest of them, and the token behind it."""
        if self._choice_tokens is None:
            choices = [Written(text=f" {choice}") for choice in self.task.output.choices or ()]
            longest = max([await self.asker.num_tokens(choice) for choice in choices], default=0)
            self._choice_tokens = longest + self.task.choosing_tokens + 1
        return self._choice_tokens

    def _without_answer(self, available: int) -> int:
        """Choices are scored: they take nothing of what is generated."""
        if self.task.output.type == "choices":
            return available
        return available - max(1, min(self.decoding.max_tokens or ANSWER_TOKENS, available // 4))

    async def ask(
        self,
        prompt: Written,
        *,
        limit: int | None = None,
        num_paths: int = 1,
        stop: tuple[str, ...] = (),
        output: Output | None = None,
        with_logprob: bool = False,
    ) -> AsyncGenerator[Piece, None]:
        """As `Asker.ask`, with at most `limit` tokens for each path. Raises `NoAnswer` where that is none."""
        if limit is not None and limit < 1:
            raise NoAnswer(self.nothing_left())
        decoding = _limited(self.decoding, limit, stop)
        pieces = self.asker.ask(prompt, decoding, num_paths=num_paths, output=output, with_logprob=with_logprob)
        counted = [0] * num_paths
        async with aclosing(pieces):
            async for piece in pieces:
                grown = piece.num_tokens if piece.path is None else piece.path.num_tokens - counted[piece.index]
                counted[piece.index] += grown
                self.spent_tokens += grown
                yield piece

    async def whole(self, prompt: Written, *, limit: int | None, stop: tuple[str, ...] = ()) -> Path:
        """One path at its end."""
        ended = None
        pieces = self.ask(prompt, limit=limit, stop=stop)
        async with aclosing(pieces):
            async for piece in pieces:
                ended = piece.path or ended
        if ended is None:
            raise NoAnswer("the model ended without saying anything")
        return ended

    def nothing_left(self) -> str:
        budget = self.task.reasoning.max_tokens
        return (
            f"reasoning.max_tokens: {budget} tokens in all do not reach to an answer: raise it, or ask for fewer paths"
        )

    def note(self, notice: str) -> None:
        self.notices[notice] = None


def _limited(decoding: Decoding, limit: int | None, stop: tuple[str, ...]) -> Decoding:
    changed: dict[str, object] = {}
    if limit is not None:
        changed["max_tokens"] = min(limit, decoding.max_tokens or limit)
    if stop:
        changed["stop"] = (*(decoding.stop or ()), *stop)
    return decoding.model_copy(update=changed) if changed else decoding


def continued(prompt: Written, addition: str, *, by: str = " ") -> Written:
    """The prompt, its answer begun with the addition; `by` goes between where nothing else does."""
    if not addition:
        return prompt
    before = prompt.begun or prompt.text or ""
    return prompt.going_on(addition if not before or before[-1].isspace() else by + addition)
