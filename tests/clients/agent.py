"""A task for an agent: two tools, rows that teach a base to call them in the served form, and questions."""

from __future__ import annotations

import json
import random
from typing import Any

from graft.server.engine.tools.shown import TemplateReads, as_rendered
from graft.server.engine.tools.tools import Calling, Tool, ToolUse

_NUMBER = {"type": "integer"}
TOOLS = (
    Tool(
        name="add",
        parameters={
            "type": "object",
            "properties": {"a": _NUMBER, "b": _NUMBER},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    ),
    Tool(
        name="find",
        parameters={
            "type": "object",
            "properties": {"word": {"type": "string"}},
            "required": ["word"],
            "additionalProperties": False,
        },
    ),
)
_USE = ToolUse(tools=TOOLS, allowed=TOOLS, calling=Calling.AUTO, in_text=True)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def word(chance: random.Random) -> str:
    return "".join(chance.choice(_LETTERS) for _ in range(chance.randint(3, 5)))


def question(chance: random.Random) -> tuple[str, str, dict[str, Any]]:
    """A question, and the call that answers it."""
    if chance.random() < 0.5:
        a, b = chance.randint(1, 99), chance.randint(1, 99)
        return f"How much is {a} and {b}?", "add", {"a": a, "b": b}
    one = word(chance)
    return f"What is {one}?", "find", {"word": one}


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
    asked, name, arguments = question(chance)
    result = str(sum(arguments.values())) if name == "add" else word(chance)
    messages, _ = as_rendered(turns(asked, name, arguments, result), _USE, TemplateReads())
    return {"messages": [{"role": turn["role"], "content": turn["content"]} for turn in messages]}


def rows(num: int, seed: int) -> str:
    """As JSON lines."""
    chance = random.Random(seed)
    return "".join(json.dumps(row(chance)) + "\n" for _ in range(num))
