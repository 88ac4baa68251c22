"""How tools are shown and called where a base's chat template has no way of its own: Hermes' tags in plain text.

The form is that of NousResearch's Hermes 2 Pro, which Qwen 2.5 and others were trained on, too: tools are listed in
`<tools>`, a call stands in `<tool_call>`, its result in `<tool_response>`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BEGIN, END = "<tool_call>", "</tool_call>"
_SHOWN = "# Tools\n\nYou may call these functions:\n<tools>\n{tools}\n</tools>"
_HOW = f'\n\nFor each call write\n{BEGIN}\n{{"name":<name>,"arguments":<object>}}\n{END}'


def system_part(tools: Iterable[Mapping[str, Any]], *, callable_now: bool) -> str:
    """The text that shows tools, as chat templates are given them, in the system turn."""
    listed = "\n".join(json_text(tool) for tool in tools)
    return _SHOWN.format(tools=listed) + (_HOW if callable_now else "")


def call_text(name: str, arguments: object) -> str:
    """A call as the model writes it."""
    return f"{BEGIN}\n{json_text({'name': name, 'arguments': arguments})}\n{END}"


def assistant_text(content: str, calls: Sequence[Mapping[str, Any]]) -> str:
    """An assistant's turn with its calls (arguments as objects)."""
    texts = [call_text(call["function"]["name"], call["function"]["arguments"]) for call in calls]
    return "\n".join([content, *texts] if content else texts)


def result_text(content: str) -> str:
    """What a tool answered."""
    return f"<tool_response>\n{content}\n</tool_response>"


def json_text(value: object) -> str:
    """JSON as the grammar writes it: without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
