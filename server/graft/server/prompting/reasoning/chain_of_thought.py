"""A chain of thought, and then the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from graft.server.errors import NoAnswer
from graft.server.prompting.asking import Path
from graft.server.prompting.reasoning.contract import answered, keeps
from graft.server.prompting.reasoning.extraction import Found, extract, last_line
from graft.server.prompting.reasoning.method import Opening
from graft.server.prompting.reasoning.talk import Talk, continued
from graft.server.prompting.reasoning.task import Ended, Growth

INSTRUCTION = "Let's think step by step."
"""Kojima et al. 2022, arXiv:2205.11916."""


class ZeroShot:
    """Reasoning after an instruction; then the answer, after all of that and a second instruction.

    Kojima et al. 2022, section 3.1. The second prompt begins with the first and what was said, which are cached.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def opening(self, left: int | None) -> Opening:
        instruction = self._talk.task.reasoning.instruction
        prompt = continued(self._talk.task.prompt, INSTRUCTION if instruction is None else instruction)
        return Opening(prompt=prompt, limit=await self._talk.free_tokens(prompt, left), tells="rationale")

    async def finish(self, opening: Opening, path: Path, left: int | None) -> AsyncGenerator[Growth | Ended, None]:
        if not path.finished:
            self._talk.note("the reasoning was cut where its room ended, and the answer made from what was there")
        prompt = continued(opening.prompt.going_on(path.text), self._talk.task.reasoning.answer_instruction, by="\n")
        ended = Ended(said="", answer="", logprob=path.logprob, num_scored=path.num_tokens)
        last = answered(self._talk, prompt, rationale=path.text.strip(), left=left, of=ended)
        async with aclosing(last):
            async for event in last:
                yield event


class FewShot:
    """What is said holds rationale and answer, as the demonstrations do (Wei et al. 2022, arXiv:2201.11903).

    Where it does not keep the output contract, the answer is made anew after the rationale.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def opening(self, left: int | None) -> Opening:
        task = self._talk.task
        limit = left if task.output.type == "text" else await self._talk.free_tokens(task.prompt, left)
        return Opening(prompt=task.prompt, limit=limit, tells="lines" if task.extraction.method == "whole" else None)

    async def finish(self, opening: Opening, path: Path, left: int | None) -> AsyncGenerator[Growth | Ended, None]:
        output = self._talk.task.output
        found = self._found(path)
        rationale = path.text[: len(path.text) if found is None else found.begin].strip()
        if opening.tells is None:
            yield Growth(rationale=rationale)
        if found is not None and keeps(output, found.answer):
            yield Growth(answer=found.answer)
            yield await self._ended(path, found, rationale)
            return
        prompt = opening.prompt.going_on(path.text if found is None else path.text[: found.begin].rstrip())
        if found is None:
            prompt = continued(prompt, self._talk.task.reasoning.answer_instruction, by="\n")
        ended = Ended(said="", answer="", logprob=path.logprob, num_scored=path.num_tokens)
        last = answered(self._talk, prompt, rationale=rationale, left=left, of=ended)
        async with aclosing(last):
            async for event in last:
                yield event

    def _found(self, path: Path) -> Found | None:
        """None where the contract has a way to an answer yet."""
        task = self._talk.task
        try:
            if task.extraction.method == "whole":
                found = last_line(path.text)
                if not found.answer:
                    raise NoAnswer("the model said nothing")
                return found
            return extract(path.text, task.extraction, choices=task.output.choices or ())
        except NoAnswer as error:
            if task.output.type != "text":
                return None
            if path.finished:
                raise
            problem = f"{error.problem} before its room ended, after {path.num_tokens} tokens"
            raise NoAnswer(problem, said=error.said) from None

    async def _ended(self, path: Path, found: Found, rationale: str) -> Ended:
        prompt = self._talk.task.prompt
        before = await self._talk.asker.num_tokens(prompt.going_on(path.text[: found.begin]))
        behind = await self._talk.asker.num_tokens(prompt.going_on(path.text))
        return Ended(
            said=prompt.begun + path.text,
            answer=found.answer,
            rationale=rationale,
            answer_tokens=max(0, min(path.num_tokens, behind - before)),
            logprob=path.logprob,
            num_scored=path.num_tokens,
            finished=path.finished,
        )
