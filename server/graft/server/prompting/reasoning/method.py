"""A way to come by an answer: what is asked first, of all paths at once, and how each path is brought to its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

from graft.server.prompting.asking import Path, Written
from graft.server.prompting.program.program import Output
from graft.server.prompting.reasoning.task import Ended, Growth


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The first question. `tells` is what its text is as it grows; None where that is known at its end only.

    `lines`: rationale, but for the last line, which is the answer.
    """

    prompt: Written
    limit: int | None = None
    output: Output | None = None
    tells: Literal["answer", "rationale", "lines"] | None = None


class Method(Protocol):
    """Made for one run. `left` is what one path may still take of the budget; None where there is none."""

    async def opening(self, left: int | None) -> Opening: ...

    def finish(self, opening: Opening, path: Path, left: int | None) -> AsyncGenerator[Growth | Ended, None]:
        """What answer and rationale grow by after the opening's path; `Ended` comes last. Raises `NoAnswer`."""
        ...
