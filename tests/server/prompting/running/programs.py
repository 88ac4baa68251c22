"""Programs that were prepared without a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from graft.server.prompting.choosing.choosing import Chosen
from graft.server.prompting.program.program import PromptProgram
from graft.server.prompting.program.reading import read_program
from graft.server.prompting.rendering.fitting import Fitted
from graft.server.prompting.rendering.languages import Templates
from graft.server.prompting.running.preparing import Prepared, Preparing
from graft.server.prompting.running.request import RunRequest

NOTHING = cast(Any, None)


class PlainText:
    """Of a base: that nothing in a text is a control token. `seen` is called with each template's text."""

    def __init__(self, seen: Any = lambda text: None) -> None:
        self._seen = seen

    def claimed(self, text: str) -> str:
        self._seen(text)
        return text

    settled = unmarked = staticmethod(str)
    num_tokens_each = NOTHING


def preparing(text: PlainText | None = None) -> Preparing:
    return Preparing(cast(Any, text or PlainText()), Templates(NOTHING))


def program(**fields: Any) -> PromptProgram:
    return read_program(json.dumps(fields))


async def prepared(
    by: Preparing, one: PromptProgram, variables: Mapping[str, Any], shown: tuple[int, ...] = (), sources: Any = None
) -> Prepared:
    """As if only these demonstrations fitted."""
    draft = await by.draft(one, variables, shown, sources)
    return prepared_of(
        RunRequest(program=one, variables=variables),
        Fitted(written=draft.written(shown), num_tokens=0, shown=shown, dropped=()),
        draft=draft,
        chosen=Chosen(indices=tuple(range(len(one.demonstrations))), farthest_first=()),
        sources=sources,
    )


def prepared_of(request: RunRequest, fitted: Fitted, *, max_tokens: int = 1, **made: Any) -> Prepared:
    """Of no model and with no text; what a test does not name is not looked at."""
    nothing = dict.fromkeys(("resolved", "text", "draft", "chosen", "sources"))
    return Prepared(request=request, fitted=fitted, max_tokens=max_tokens, **cast(Any, {**nothing, **made}))
