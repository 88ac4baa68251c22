"""The turns of a chat: what each must hold, and that nothing of one is dropped without a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.server.api.limits import MAX_MESSAGES
from graft.server.runtime.violations import Violations, shown

ROLES = ("system", "user", "assistant")
# OpenAI's newer name of the same role.
_SYSTEM = "developer"
# Where text is between two parts, as vLLM joins them.
_BETWEEN_PARTS = "\n"
_TOOLS = "calling tools is not supported yet; leave these turns out"
_REMEDIES = {
    "name": "the chat template does not show it; write it into the content",
    "tool_calls": _TOOLS,
    "tool_call_id": _TOOLS,
    "function_call": _TOOLS,
}
# A caching hint: what is answered is the same.
_PART_KEYS = frozenset({"type", "text", "prompt_cache_breakpoint"})


def template_role(role: str) -> str:
    """The role as chat templates know it."""
    return "system" if role == _SYSTEM else role


def role_problem(role: object) -> str | None:
    """What is wrong with a turn's role, or None."""
    if role in ("tool", "function"):
        return f"is {shown(role)}; {_TOOLS}"
    if isinstance(role, str) and template_role(role) in ROLES:
        return None
    return f"{shown(role)} is none of {', '.join(ROLES)}"


def read_messages(messages: object, violations: Violations) -> list[dict[str, str]]:
    """A request's `messages` as turns of a role and one text; usable only where no violation was added."""
    if not isinstance(messages, list) or not messages:
        problem = "is empty: give at least one turn" if messages == [] else f"is {shown(messages)}; it must be a list"
        violations.add("messages", problem)
        return []
    if len(messages) > MAX_MESSAGES:
        violations.add("messages", f"has {len(messages)} turns; the limit is {MAX_MESSAGES}")
        return []
    return [
        _turn(message, f"messages[{index}]", violations)
        for index, message in violations.until_full(enumerate(messages))
    ]


def _turn(message: object, field: str, violations: Violations) -> dict[str, str]:
    if not isinstance(message, Mapping):
        violations.add(field, f"is {shown(message)}; a turn is an object with role and content")
        return {}
    given = {key: value for key, value in message.items() if value not in (None, "", [], {})}
    role = message.get("role")
    if role is None:
        violations.add(f"{field}.role", f"is missing: it is one of {', '.join(ROLES)}")
    elif problem := role_problem(role):
        violations.add(f"{field}.role", problem)
    for key, value in violations.until_full(given.items()):
        if key not in ("role", "content"):
            remedy = _REMEDIES.get(key, "only role and content of a turn are read; remove it")
            violations.add(f"{field}.{key[:40]}", f"{shown(value)} would be lost: {remedy}")
    return {"role": template_role(str(role)), "content": _content(message.get("content"), field, violations)}


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
