"""A question is split into easier ones, which are answered one after the other (Zhou et al. 2022, arXiv:2205.10625)."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from graft.server.prompting.asking import Path, Written
from graft.server.prompting.reasoning.contract import answered
from graft.server.prompting.reasoning.method import Opening
from graft.server.prompting.reasoning.talk import Talk, continued
from graft.server.prompting.reasoning.task import Ended, Growth

INSTRUCTION = "Let's break down this problem:"
"""Zhou et al. 2022, appendix, the prompt for GSM8K."""
MAX_SUBQUESTIONS = 8

# "1. How many …?", "1) …", "- …": at a line's beginning, or one behind the other as the paper has them.
_NUMBERED = re.compile(r"(?:(?<=\s)|^)(?:\d{1,2}[.)]|[-*\u2022])\s+")


class LeastToMost:
    """All stages stand in one text that grows, so that each finds what came before it in the prefix cache."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def opening(self, left: int | None) -> Opening:
        instruction = self._talk.task.reasoning.instruction
        prompt = continued(self._talk.task.prompt, INSTRUCTION if instruction is None else instruction)
        free = await self._talk.free_tokens(prompt, left)
        return Opening(prompt=prompt, limit=max(1, free // 2), tells="rationale")

    async def finish(self, opening: Opening, path: Path, left: int | None) -> AsyncGenerator[Growth | Ended, None]:
        questions = subquestions(path.text)
        if not questions:
            self._talk.note("the model named no easier question: the answer was made from what it said")
        if len(questions) > MAX_SUBQUESTIONS:
            self._talk.note(f"of {len(questions)} easier questions the first {MAX_SUBQUESTIONS} were answered")
        prompt = opening.prompt.going_on(path.text)
        stage = self._answer_each(prompt, questions, left)
        async with aclosing(stage):
            async for after, grown, taken in stage:
                prompt, left = after, None if left is None else left - taken
                yield Growth(rationale=grown)
        rationale = prompt.begun[len(opening.prompt.begun) :].strip()
        prompt = continued(prompt, self._talk.task.reasoning.answer_instruction, by="\n")
        ended = Ended(said="", answer="", logprob=path.logprob, num_scored=path.num_tokens)
        last = answered(self._talk, prompt, rationale=rationale, left=left, of=ended)
        async with aclosing(last):
            async for event in last:
                yield event

    async def _answer_each(
        self, prompt: Written, questions: list[str], left: int | None
    ) -> AsyncGenerator[tuple[Written, str, int], None]:
        """The text with each answer, what it grew by, and the tokens that this took."""
        waiting = questions[:MAX_SUBQUESTIONS]
        for index, question in enumerate(waiting):
            asked = prompt.going_on(f"\n{'' if index else chr(10)}Q: {question}\nA:")
            limit = await self._talk.spare_tokens(asked, left) // (len(waiting) - index)
            if limit < 1:
                self._talk.note(f"{len(waiting) - index} easier questions were left out for want of room")
                return
            path = await self._talk.whole(asked, limit=limit, stop=("\n",))
            left = None if left is None else left - path.num_tokens
            after = asked.going_on(path.text.rstrip())
            yield after, after.begun[len(prompt.begun) :], path.num_tokens
            prompt = after


def subquestions(text: str) -> list[str]:
    """The questions that a list names, without numbers; of a text without a list, the sentences that ask."""
    parts = [" ".join(part.split()) for part in _NUMBERED.split(text)]
    listed = [part for part in parts[1:] if part]
    if not listed:
        listed = [part.strip() for part in re.split(r"(?<=[.?!\n])", text) if part.endswith("?")]
    asked = [part[: part.index("?") + 1] if "?" in part else part for part in listed]
    return list(dict.fromkeys(asked))
