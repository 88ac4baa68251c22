"""`input` of a response: text, messages, calls and their results, as the turns of a chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graft.server.api.limits import MAX_MESSAGES
from graft.server.runtime.violations import Violations, shown

_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_KINDS = "message, function_call, function_call_output, reasoning"


@dataclass(kw_only=True)
class Turns:
    """`messages` as /v1/chat/completions has them, and which field of the request each part of one came from."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def add(self, message: dict[str, Any], place: str) -> None:
        self.places[f"messages[{len(self.messages)}]"] = place
        self.messages.append(message)

    @property
    def assistant(self) -> dict[str, Any] | None:
        """The assistant's turn that goes on, if the last is one."""
        last = self.messages[-1] if self.messages else None
        return last if last is not None and last["role"] == "assistant" else None


def read_input(given: Any, turns: Turns, violations: Violations) -> None:
    """Adds the turns of `input`; calls, and what was reasoned and said before them, are one turn of the assistant."""
    if isinstance(given, str):
        turns.add({"role": "user", "content": given}, "input")
        return
    if not isinstance(given, list) or not given:
        problem = "is missing" if given is None else "is empty" if given == [] else f"is {shown(given)}"
        violations.add("input", f"{problem}: give text, or a list of items")
        return
    if len(given) > MAX_MESSAGES:
        violations.add("input", f"has {len(given)} items; the limit is {MAX_MESSAGES}")
        return
    for index, item in violations.until_full(enumerate(given)):
        _add_item(item, f"input[{index}]", turns, violations)


def _add_item(item: Any, place: str, turns: Turns, violations: Violations) -> None:
    if not isinstance(item, Mapping):
        violations.add(place, f"is {shown(item)}; an item is an object: one of {_KINDS}")
        return
    kind = item.get("type") or "message"
    if kind == "message":
        _add_message(item, place, turns, violations)
    elif kind == "function_call":
        _add_call(item, place, turns, violations)
    elif kind == "function_call_output":
        output = _content(item.get("output"), f"{place}.output", violations)
        turns.add({"role": "tool", "tool_call_id": item.get("call_id"), "content": output}, place)
    elif kind == "reasoning":
        _add_reasoning(item, place, turns, violations)
    else:
        remedy = "nothing is stored here: give the item itself" if kind == "item_reference" else f"there is {_KINDS}"
        violations.add(f"{place}.type", f"{shown(kind)} is not supported; {remedy}")


def _add_message(item: Mapping[str, Any], place: str, turns: Turns, violations: Violations) -> None:
    content = _content(item.get("content"), f"{place}.content", violations)
    told = turns.assistant
    if item.get("role") == "assistant" and told is not None and told["content"] is None and "tool_calls" not in told:
        told["content"] = content
        return
    turns.add({"role": item.get("role"), "content": content}, place)


def _add_call(item: Mapping[str, Any], place: str, turns: Turns, violations: Violations) -> None:
    for name in ("call_id", "name", "arguments"):
        if not isinstance(item.get(name), str) or not (item[name] or name == "arguments"):
            problem = "is missing" if item.get(name) is None else f"is {shown(item[name])}"
            violations.add(f"{place}.{name}", f"{problem}; a call has the texts call_id, name and arguments")
            return
    function = {"name": item["name"], "arguments": item["arguments"]}
    told = turns.assistant
    if told is None:
        turns.add(told := {"role": "assistant", "content": None}, place)
    calls = told.setdefault("tool_calls", [])
    turns.places[f"messages[{len(turns.messages) - 1}].tool_calls[{len(calls)}]"] = place
    calls.append({"id": item["call_id"], "type": "function", "function": function})


def _add_reasoning(item: Mapping[str, Any], place: str, turns: Turns, violations: Violations) -> None:
    if item.get("encrypted_content") is not None and not item.get("content"):
        violations.add(f"{place}.encrypted_content", "was encrypted elsewhere and cannot be read; leave the item out")
        return
    part = "content" if item.get("content") else "summary"
    text = _content(item.get(part) or "", f"{place}.{part}", violations)
    turns.add({"role": "assistant", "content": None, "reasoning_content": text}, place)


def _content(given: Any, place: str, violations: Violations) -> str:
    """Text, or the texts of parts on lines of their own."""
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        problem = "is missing" if given is None else f"is {shown(given)}"
        violations.add(place, f"{problem}; give text, or a list of text parts")
        return ""
    texts = []
    for index, part in violations.until_full(enumerate(given)):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in _TEXTS or not isinstance(part.get("text"), str):
            remedy = "only text is read here" if kind not in _TEXTS else "it holds no text"
            violations.add(f"{place}[{index}]", f"is {shown(kind if kind else part)}; {remedy}")
        else:
            texts.append(part["text"])
    return "\n".join(texts)
