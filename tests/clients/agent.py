"""A task for an agent: two tools, rows that teach a base to call them in the served form, and questions."""

from __future__ import annotations

import json
import random
from typing import Any

from graft.server.engine.tools.shown import TemplateReads, as_rendered
from graft.server.engine.tools.tools import Calling, Tool, ToolUse

_CITIES = ("Oslo", "Rome", "Bern", "Kyiv")
_RESULTS = {"sky": ("sun", "rain", "snow", "wind"), "hour": ("one", "four", "six", "ten")}
_QUESTIONS = {"sky": "How is the sky in {}?", "hour": "Which hour is it in {}?"}
_CITY = {"type": "object", "properties": {"city": {"enum": list(_CITIES)}}, "required": ["city"]}
TOOLS = tuple(Tool(name=name, parameters=_CITY) for name in _QUESTIONS)
_USE = ToolUse(tools=TOOLS, allowed=TOOLS, calling=Calling.AUTO, in_text=True)


def question(chance: random.Random) -> tuple[str, str, dict[str, Any], str]:
    """A question, the call that answers it, and what it finds."""
    name, city = chance.choice(list(_QUESTIONS)), chance.choice(_CITIES)
    return _QUESTIONS[name].format(city), name, {"city": city}, chance.choice(_RESULTS[name])


def turns(asked: str, name: str, arguments: dict[str, Any], result: str) -> list[dict[str, Any]]:
    """The whole conversation, as OpenAI's clients hold it."""
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
        {"role": "assistant", "content": f"It is {result}."},
    ]


def row(chance: random.Random) -> dict[str, Any]:
    """A fine-tuning row in the form that the server shows."""
    messages, _ = as_rendered(turns(*question(chance)), _USE, TemplateReads())
    return {"messages": [{"role": turn["role"], "content": turn["content"]} for turn in messages]}


def rows(num: int, seed: int) -> str:
    """As JSON lines."""
    chance = random.Random(seed)
    return "".join(json.dumps(row(chance)) + "\n" for _ in range(num))
