"""The answer at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from graft.server.prompting.asking import Path
from graft.server.prompting.reasoning.contract import constraint
from graft.server.prompting.reasoning.extraction import extract
from graft.server.prompting.reasoning.method import Opening
from graft.server.prompting.reasoning.talk import Talk
from graft.server.prompting.reasoning.task import Ended, Growth


class Direct:
    """What is said follows the output contract and holds the answer."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._constraint = constraint(talk.task.output)
        self._is_whole = self._constraint is not None or talk.task.extraction.method == "whole"

    async def opening(self, left: int | None) -> Opening:
        return Opening(
            prompt=self._talk.task.prompt,
            limit=left,
            output=self._constraint,
            tells="answer" if self._is_whole else None,
        )

    async def finish(self, opening: Opening, path: Path, left: int | None) -> AsyncGenerator[Growth | Ended, None]:
        task = self._talk.task
        answer = path.text.strip() if self._is_whole else self._extracted(path.text)
        if not self._is_whole:
            yield Growth(answer=answer)
        yield Ended(
            said=task.prompt.begun + path.text,
            answer=answer,
            answer_tokens=path.num_tokens,
            logprob=path.logprob,
            num_scored=path.num_tokens,
            finished=path.finished,
        )

    def _extracted(self, text: str) -> str:
        task = self._talk.task
        return extract(text, task.extraction, choices=task.output.choices or ()).answer
