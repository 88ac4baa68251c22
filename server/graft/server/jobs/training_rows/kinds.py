"""What a row must hold for each method, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graft.server.jobs.job import Method
from graft.server.runtime.violations import shown

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def problems_of(row: Mapping[str, Any], method: Method) -> Iterator[str]:
    """What is wrong with a row, each with the field that it is about."""
    if method in (Method.DPO, Method.REWARD):
        yield from _preference(row)
    elif method is Method.REINFORCEMENT:
        yield from _messages(row, "messages", ends_in="user")
    elif "messages" in row:
        yield from _messages(row, "messages", ends_in="assistant")
    else:
        yield from _completion(row)


def _completion(row: Mapping[str, Any]) -> Iterator[str]:
    for name in ("prompt", "completion"):
        if not isinstance(row.get(name), str):
            state = f"is {shown(row[name])}" if name in row else "is missing"
            yield f"{name} {state}: a row has messages, or prompt and completion as texts"
    if row.get("completion") == "":
        yield "completion is empty: nothing can be learned from it"


def _preference(row: Mapping[str, Any]) -> Iterator[str]:
    given = row.get("input")
    if not isinstance(given, dict):
        yield "input is missing: an object with messages"
    else:
        yield from (f"input.{one}" for one in _messages(given, "messages", ends_in=None))
    for name in ("preferred_output", "non_preferred_output"):
        yield from _messages(row, name, ends_in="assistant")
    if row.get("preferred_output") and row.get("preferred_output") == row.get("non_preferred_output"):
        yield "preferred_output is the same as non_preferred_output: nothing is preferred"


def _messages(row: Mapping[str, Any], name: str, *, ends_in: str | None) -> Iterator[str]:
    messages = row.get(name)
    if not isinstance(messages, list) or not messages:
        state = "is empty" if messages == [] else f"is {shown(messages)}" if name in row else "is missing"
        yield f"{name} {state}: a list of messages"
        return
    for index, message in enumerate(messages):
        yield from (f"{name}[{index}]{one}" for one in _message(message))
    last = messages[-1].get("role") if isinstance(messages[-1], dict) else None
    if ends_in == "assistant" and last in _ROLES and last != "assistant":
        yield f"{name} ends with {last}: the last message is the assistant's, which is learned"
    if ends_in == "user" and last == "assistant":
        yield f"{name} ends with the assistant: the model answers the last message itself"
    learned = [one for one in messages if isinstance(one, dict) and one.get("role") == "assistant"]
    if ends_in == "assistant" and learned and all(one.get("weight") == 0 for one in learned):
        yield f"{name} has weight 0 in every message of the assistant: nothing can be learned from it"


def _message(message: Any) -> Iterator[str]:
    if not isinstance(message, dict):
        yield f" is {shown(message)}: a message is an object"
        return
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        yield f".role {'is missing' if role is None else f'is {shown(role)}'}: one of {', '.join(_ROLES)}"
    has_call = role == "assistant" and (message.get("tool_calls") or message.get("function_call"))
    if content is None and not has_call:
        yield ".content is missing"
    elif content is not None and not isinstance(content, str | list):
        yield f".content is {shown(content)}: a text, or a list of parts"
    elif isinstance(content, list):
        yield from (f".content[{index}]{one}" for index, part in enumerate(content) for one in _part(part))
    weight = message.get("weight")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        yield f".weight is {shown(weight)}: 0 or 1"
    elif weight is not None and role != "assistant":
        yield f".weight is given to {shown(role)}: only the assistant's messages are learned"


def _part(part: Any) -> Iterator[str]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != "text" or not isinstance(part.get("text"), str):
        yield f" is {shown(kind) if kind else 'no part'}: only parts of type text are learned from here"
