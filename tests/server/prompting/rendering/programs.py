"""Programs for tests, from Python values."""

from __future__ import annotations

import json
from typing import Any

from graft.server.prompting.program.program import PromptProgram
from graft.server.prompting.rendering.languages import Templates
from graft.server.prompting.rendering.templates import Reading

SENTIMENT = "Is it good?\n\n{{demonstrations}}\nReview: {{review}}\nAnswer:"
REVIEWS: list[dict[str, Any]] = [
    {"inputs": {"review": "Lovely."}, "output": "yes"},
    {"inputs": {"review": "Dull."}, "output": "no"},
    {"inputs": {"review": "Fine."}, "output": "yes"},
]


def program(prompt: Any, **fields: Any) -> PromptProgram:
    """As it is read from JSON."""
    kind = {} if isinstance(prompt, str) else {"type": "chat"}
    return PromptProgram.model_validate_json(json.dumps({"prompt": prompt, **kind, **fields}))


class NoJinja:
    """For programs that have none."""

    async def render(self, jobs: object) -> list[str]:
        raise AssertionError("no Jinja is asked for")

    async def read(self, templates: object) -> list[Reading]:
        raise AssertionError("no Jinja is asked for")


MUSTACHE = Templates(NoJinja())
