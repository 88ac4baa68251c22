"""The turns of a chat: what each must hold, and that nothing of one is dropped without a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.server.api.limits import MAX_MESSAGES
from graft.server.api.tool_turns import CallIds, read_calls
from graft.server.runtime.roles import ROLES, TOOL, role_problem, template_role
from graft.server.runtime.violations import Violations, shown

# Where text is between two parts, as vLLM joins them.
_BETWEEN_PARTS = "\n"
_FUNCTIONS = "give `tool_calls`, and results as turns of the role `tool`"
_REMEDIES = {
    "name": "the chat template does not show it; write it into the content",
    "tool_calls": "only the assistant calls tools",
    "tool_call_id": "it belongs to turns of the role `tool`",
    "function_call": _FUNCTIONS,
    "reasoning": "only the assistant reasons",
    "reasoning_content": "only the assistant reasons",
}
# Keys that a role has beside role and content.
_MORE = {"assistant": ("tool_calls", "reasoning", "reasoning_content"), TOOL: ("tool_call_id", "name")}
# A caching hint: what is answered is the same.
_PART_KEYS = frozenset({"type", "text", "prompt_cache_breakpoint"})


def read_messages(messages: object, violations: Violations) -> list[dict[str, Any]]:
    """A request's `messages` as turns of a role and one text, usable only where no violation was added.

    An assistant's have `tool_calls` and `reasoning_content` where they were given, a tool's its `tool_call_id` and the
    function's `name`.
    """
    if not isinstance(messages, list) or not messages:
        problem = "is empty: give at least one turn" if messages == [] else f"is {shown(messages)}; it must be a list"
        violations.add("messages", problem)
        return []
    if len(messages) > MAX_MESSAGES:
        violations.add("messages", f"has {len(messages)} turns; the limit is {MAX_MESSAGES}")
        return []
    ids = CallIds()
    return [
        _turn(message, f"messages[{index}]", ids, violations)
        for index, message in violations.until_full(enumerate(messages))
    ]


def _turn(message: object, field: str, ids: CallIds, violations: Violations) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        violations.add(field, f"is {shown(message)}; a turn is an object with role and content")
        return {}
    given = {key: value for key, value in message.items() if value not in (None, "", [], {})}
    role = message.get("role")
    if role is None:
        violations.add(f"{field}.role", f"is missing: it is one of {', '.join((*ROLES, TOOL))}")
    elif role == "function":
        violations.add(f"{field}.role", f'is "function", OpenAI\'s older form; {_FUNCTIONS}')
    elif role != TOOL and (problem := role_problem(role)):
        violations.add(f"{field}.role", problem)
    more = _MORE.get(str(role), ())
    for key, value in violations.until_full(given.items()):
        if key not in ("role", "content", *more):
            remedy = _REMEDIES.get(key, "only role and content of a turn are read; remove it")
            violations.add(f"{field}.{key[:40]}", f"{shown(value)} would be lost: {remedy}")
    turn: dict[str, Any] = {"role": template_role(str(role))}
    if role == "assistant":
        turn |= _said(given, field, ids, violations)
    elif role == TOOL:
        turn |= _answered(given, field, ids, violations)
    content = message.get("content")
    may_be_empty = content in (None, []) and "tool_calls" in turn
    return {**turn, "content": "" if may_be_empty else _content(content, field, violations)}


def _said(given: Mapping[str, Any], field: str, ids: CallIds, violations: Violations) -> dict[str, Any]:
    """An assistant's calls and reasoning."""
    turn: dict[str, Any] = {}
    if "tool_calls" in given:
        turn["tool_calls"] = read_calls(given["tool_calls"], f"{field}.tool_calls", ids, violations)
    names = [name for name in ("reasoning_content", "reasoning") if name in given]
    for name in names:
        if not isinstance(given[name], str):
            violations.add(f"{field}.{name}", f"is {shown(given[name])}; it must be text")
    if len({str(given[name]) for name in names}) > 1:
        violations.add(f"{field}.reasoning", "is another text than `reasoning_content`; they are the same: give one")
    elif names:
        turn["reasoning_content"] = str(given[names[0]])
    return turn


def _answered(given: Mapping[str, Any], field: str, ids: CallIds, violations: Violations) -> dict[str, Any]:
    """Which call a tool's turn answers."""
    call_id, name = given.get("tool_call_id"), given.get("name")
    if problem := ids.problem(call_id):
        violations.add(f"{field}.tool_call_id", problem)
        return {}
    called = ids.name(str(call_id))
    if name not in (None, called):
        violations.add(f"{field}.name", f"is {shown(name)}, and the call is of {shown(called)}; leave it out")
    return {"tool_call_id": str(call_id), "name": called}


def _content(content: object, field: str, violations: Violations) -> str:
    if isinstance(content, str):
        return content
    if content is None or content == []:
        violations.add(f"{field}.content", "is missing: give text, or a list of text parts")
        return ""
    if not isinstance(content, list):
        violations.add(f"{field}.content", f"is {shown(content)}; give text, or a list of text parts")
        return ""
    parts = [
        _part(part, f"{field}.content[{index}]", violations)
        for index, part in violations.until_full(enumerate(content))
    ]
    return _BETWEEN_PARTS.join(parts)


def _part(part: Any, field: str, violations: Violations) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        violations.add(field, f"is {shown(part)}; a part is an object with type and text")
        return ""
    if part.get("type") != "text":
        violations.add(f"{field}.type", f"{shown(part.get('type'))} is not supported; only `text` parts are read")
        return ""
    for key in violations.until_full(part):
        if key not in _PART_KEYS and part[key] is not None:
            violations.add(f"{field}.{key[:40]}", "would be lost: only the text of a part is read; remove it")
    text = part.get("text")
    if not isinstance(text, str):
        violations.add(f"{field}.text", "is missing" if text is None else f"is {shown(text)}; it must be text")
        return ""
    return text
