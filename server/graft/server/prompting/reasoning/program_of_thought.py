"""The model writes what is to be computed, and the server computes it (Chen et al. 2022, arXiv:2211.12588)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from graft.server.errors import NoAnswer
from graft.server.prompting.asking import Path
from graft.server.prompting.reasoning import expression
from graft.server.prompting.reasoning.contract import answered, keeps
from graft.server.prompting.reasoning.method import Opening
from graft.server.prompting.reasoning.talk import Talk, continued
from graft.server.prompting.reasoning.task import Ended, Growth

INSTRUCTION = "Write one assignment on each line, such as total = 3 * 4. The last line is the answer.\n"


class ProgramOfThought:
    """The value of the last line is the answer; where the contract wants more, it is asked for after the value."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def opening(self, left: int | None) -> Opening:
        prompt, instruction = self._talk.task.prompt, self._talk.task.reasoning.instruction
        if not self._talk.task.shows_rationales or instruction is not None:
            prompt = continued(prompt, INSTRUCTION if instruction is None else instruction)
        if self._talk.task.output.type == "text":
            return Opening(prompt=prompt, limit=left, tells="rationale")
        return Opening(prompt=prompt, limit=await self._talk.free_tokens(prompt, left), tells="rationale")

    async def finish(self, opening: Opening, path: Path, left: int | None) -> AsyncGenerator[Growth | Ended, None]:
        if not path.finished:
            raise NoAnswer(
                f"the program was cut where its room ended, after {path.num_tokens} tokens: raise max_tokens, or give "
                "a stop that ends it"
            )
        try:
            value = expression.written(expression.run(path.text))
        except expression.ExpressionError as error:
            raise NoAnswer("what the model wrote cannot be computed", said=str(error)) from None
        said = opening.prompt.going_on(path.text)
        ended = Ended(
            said=continued(said, value, by="\n").begun,
            answer=value,
            rationale=path.text.strip(),
            logprob=path.logprob,
            num_scored=path.num_tokens,
        )
        if keeps(self._talk.task.output, value):
            yield Growth(answer=value)
            yield ended
            return
        prompt = continued(said, f"{self._talk.task.reasoning.answer_instruction} {value}, that is", by="\n")
        last = answered(self._talk, prompt, rationale=ended.rationale, left=left, of=ended)
        async with aclosing(last):
            async for event in last:
                yield event
