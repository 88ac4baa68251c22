"""What holds calls in plain text to their tools' schemas."""

from __future__ import annotations

import json

from graft.adapters.chat.form import BEGIN, END, json_text
from graft.server.engine.schema.json_schema import JsonSchema
from graft.server.engine.schema.patterns.patterns import fault
from graft.server.engine.schema.refusal import SchemaRefused
from graft.server.engine.tools.tools import Calling, Tool, ToolUse
from graft.server.runtime.json_values import read_json

# A reply that may hold several calls has so many characters for each.
_CALL_CHARACTERS = 400
_MAX_CALLS = 8


def calls_grammar(use: ToolUse, room: int) -> str:
    """A reply of at most about `room` characters that calls (`REQUIRED`), or speaks and may call (`AUTO`).

    A call that begins the reply of `AUTO` ends within the room; one that follows text may be cut off, as text is.
    With a `reply_schema` it calls, or is JSON by that. In llguidance's Lark. Raises `SchemaRefused` with the tool's
    name where arguments cannot be held to their schema.
    """
    is_bare = use.calling is Calling.REQUIRED or use.reply_schema is not None
    num_calls = 1 if use.at_most_one else max(1, min(_MAX_CALLS, room // _CALL_CHARACTERS))
    each = room // num_calls if is_bare else room
    bodies = " | ".join(f"tool{index}" for index in range(len(use.allowed)))
    rules = [*(_bare_rules if is_bare else _spoken_rules)(use, bodies, num_calls)]
    for index, tool in enumerate(use.allowed):
        rules += _tool_rules(index, tool, each)
    if use.reply_schema is not None:
        rules += JsonSchema(read_json(use.reply_schema)).rules(room, prefix="reply-")
    text = "\n".join(["%llguidance {}", *rules])
    if problem := fault(text):
        raise SchemaRefused(f"the tools are too complex together: {problem.splitlines()[0][:120]}")
    return text


def _bare_rules(use: ToolUse, bodies: str, num_calls: int) -> list[str]:
    """Calls, or a reply by its own schema, and nothing around them."""
    more = f' ("\\n" call){{0,{num_calls - 1}}}' if num_calls > 1 else ""
    reply = "" if use.reply_schema is None else " | reply-start"
    begin, end = _quoted(f"{BEGIN}\n"), _quoted(f"\n{END}")
    return [f"start: call{more}{reply}", f"call: {begin} ({bodies}) {end}"]


def _spoken_rules(use: ToolUse, bodies: str, num_calls: int) -> list[str]:
    """Text in which each begin tag begins a call."""
    start = "call | rest" if use.at_most_one else "call* rest"
    head = f"head[lazy]: TEXT {_quoted(BEGIN)}"
    call = f'call: head "\\n" ({bodies}) {_quoted(chr(10) + END)}'
    return [f"start: {start}", "rest: TEXT", "TEXT: /(?s:.*)/", head, call]


def _tool_rules(index: int, tool: Tool, room: int) -> list[str]:
    prefix = f"t{index}-"
    begin = f'{{"name":{json_text(tool.name)},"arguments":'
    framed = len(BEGIN) + len(END) + len(begin) + 3
    schema = tool.parameters if "type" in tool.parameters else {"type": "object", **tool.parameters}
    try:
        body = JsonSchema(schema).rules(max(1, room - framed), prefix=prefix)
    except SchemaRefused as error:
        raise SchemaRefused(f"of the function {json_text(tool.name)}: {error}", pointer=f"/{index}") from error
    return [f'tool{index}: {_quoted(begin)} {prefix}start "}}"', *body]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
