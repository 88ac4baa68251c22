"""Turns that call tools and turns that bring their results: every result has its call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.server.runtime.json_values import BadJson, read_json
from graft.server.runtime.violations import Violations, shown

MAX_CALLS = 128
_KEYS = ("id", "type", "function", "index")


class CallIds:
    """The calls that a conversation has made so far, by id."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def add(self, call_id: str, name: str) -> None:
        self._names[call_id] = name

    def problem(self, call_id: Any) -> str | None:
        """What is wrong with the id of a result, or None."""
        if not isinstance(call_id, str) or not call_id:
            return "is missing: a result names the call that it answers"
        if call_id not in self._names:
            return f"is {shown(call_id)}, which is the id of no call in an earlier turn"
        return None

    def name(self, call_id: str) -> str:
        """The function that was called."""
        return self._names.get(call_id, "")


def read_calls(given: Any, field: str, ids: CallIds, violations: Violations) -> list[dict[str, Any]]:
    """An assistant's `tool_calls`, arguments as objects."""
    if not isinstance(given, list) or len(given) > MAX_CALLS:
        problem = f"has {len(given)} entries; the limit is {MAX_CALLS}" if isinstance(given, list) else "must be a list"
        violations.add(field, problem)
        return []
    return [_call(one, f"{field}[{index}]", ids, violations) for index, one in enumerate(given)]


def _call(one: Any, field: str, ids: CallIds, violations: Violations) -> dict[str, Any]:
    call = one if isinstance(one, Mapping) else {}
    function = call.get("function") if isinstance(call.get("function"), Mapping) else {}
    assert isinstance(function, Mapping)
    call_id, name = call.get("id"), function.get("name")
    if call.get("type", "function") != "function":
        violations.add(f"{field}.type", f"{shown(call['type'])} is not supported; it must be `function`")
    for key in call:
        if key not in _KEYS and call[key] is not None:
            violations.add(f"{field}.{key[:40]}", "would be lost: a call has id, type and function; remove it")
    if not isinstance(call_id, str) or not call_id:
        violations.add(f"{field}.id", "is missing: a result names its call by it")
    if not isinstance(name, str) or not name:
        violations.add(f"{field}.function.name", "is missing: name the function that was called")
        return {}
    arguments = _arguments(function.get("arguments"), f"{field}.function.arguments", violations)
    ids.add(str(call_id), name)
    return {"id": str(call_id), "type": "function", "function": {"name": name, "arguments": arguments}}


def _arguments(given: Any, field: str, violations: Violations) -> Any:
    """Chat templates write arguments as JSON themselves; OpenAI's clients send the text of it."""
    if isinstance(given, Mapping):
        return dict(given)
    if given in (None, ""):
        return {}
    if not isinstance(given, str):
        violations.add(field, f"is {shown(given)}; it must be the text of a JSON object")
        return {}
    try:
        value = read_json(given)
    except BadJson:
        # What a model wrote wrongly is shown to it as it was.
        return given
    return value
