"""Rows of ``messages``, as OpenAI's fine-tuning has them, and TRL's conversational prompts and completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.adapters.text.problems import BadLine
from graft.training.batch.rows.fields import check_keys, kind_of, list_of, object_of, text_of
from graft.training.batch.rows.row import Conversation, Turn
from graft.training.batch.rows.tools import Calls, tools_of

ROLES = ("system", "user", "assistant", "tool")
BESIDE = frozenset({"tools", "chat_template_kwargs", "parallel_tool_calls"})
"""Keys of a row beside its messages. How calls are asked for in parallel is not rendered."""
_REASONING = ("reasoning_content", "reasoning", "thinking")
_KEYS = {
    "assistant": {"role", "content", "name", "weight", "tool_calls", "refusal", *_REASONING},
    "tool": {"role", "content", "name", "tool_call_id"},
}
_OTHER_KEYS = {"role", "content", "name"}
_OLDER = {
    "function_call": "give tool_calls, and results as messages of the role 'tool'",
    "audio": "only text is learned",
}
_BETWEEN_PARTS = "\n"
"""As servers join them."""


def conversation(row: Mapping[str, Any]) -> Conversation:
    """Raises ``BadLine``."""
    check_keys(row, {"messages", *BESIDE})
    return _whole(turns_of(row["messages"], "message", Calls()), row)


def prompt_and_completion(row: Mapping[str, Any]) -> Conversation:
    """TRL's: of messages, of which only the completion's are learned. Raises ``BadLine``."""
    check_keys(row, {"prompt", "completion", *BESIDE})
    calls = Calls()
    before = [_unlearned(turn) for turn in turns_of(row["prompt"], "prompt message", calls)]
    return _whole([*before, *turns_of(row.get("completion"), "completion message", calls)], row)


def turns_of(messages: Any, what: str, calls: Calls) -> list[Turn]:
    """Raises ``BadLine``."""
    if not isinstance(messages, list) or not messages:
        raise BadLine(f"{what}s must be a list with at least one message, not {kind_of(messages)}.")
    return [_turn(message, f"{what} {number}", calls) for number, message in enumerate(messages, start=1)]


def learnable(turns: list[Turn]) -> tuple[Turn, ...]:
    """Raises ``BadLine`` where nothing is to be learned."""
    if not any(turn.is_learned for turn in turns):
        raise BadLine("no assistant message to learn from; add one, or remove its weight 0.")
    return tuple(turns)


def _whole(turns: list[Turn], row: Mapping[str, Any]) -> Conversation:
    variables = object_of(row.get("chat_template_kwargs", {}), "chat_template_kwargs")
    return Conversation(turns=learnable(turns), tools=tools_of(row.get("tools")), variables=variables)


def _unlearned(turn: Turn) -> Turn:
    from dataclasses import replace

    return replace(turn, is_learned=False)


def _turn(given: Any, where: str, calls: Calls) -> Turn:
    if not isinstance(given, dict):
        raise BadLine(f"{where} must be an object with role and content, not {kind_of(given)}.")
    message = object_of(given, where)
    role = "system" if message.get("role") == "developer" else message.get("role")
    if role not in ROLES:
        raise BadLine(f"{where} has role {role!r}; the roles are {', '.join(ROLES)}.")
    for key, remedy in _OLDER.items():
        if key in message:
            raise BadLine(f"{where} has {key}: {remedy}.")
    check_keys(message, _KEYS.get(role, _OTHER_KEYS), where)
    if role == "assistant":
        return _said(message, where, calls)
    content = _content(message, where)
    if role == "tool":
        call_id, name = calls.answered(message.get("tool_call_id"), message.get("name"), where)
        return Turn(role=role, content=content, is_learned=False, call_id=call_id, name=name)
    return Turn(role=role, content=content, is_learned=False, name=_name(message, where))


def _name(message: Mapping[str, Any], where: str) -> str | None:
    return text_of(message, "name", f"{where}: ") if "name" in message else None


def _said(message: Mapping[str, Any], where: str, calls: Calls) -> Turn:
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        raise BadLine(f"{where} has weight {weight!r}; it must be 0 or 1.")
    made = calls.made(message["tool_calls"], where) if message.get("tool_calls") else ()
    content = "" if message.get("content") in (None, "", []) else _content(message, where)
    if message.get("refusal"):
        if content.strip():
            raise BadLine(f"{where} has content and a refusal, which are one text in a reply; leave one out.")
        content = text_of(message, "refusal", f"{where}: ")
    if not content.strip() and not made:
        if "content" not in message:
            raise BadLine(f"{where}: content is missing.")
        raise BadLine(f"{where}: content is empty, so there is nothing to learn; fill it or remove the row.")
    return Turn(
        role="assistant",
        content=content,
        is_learned=weight == 1,
        reasoning=_reasoning(message, where),
        calls=made,
        name=_name(message, where),
    )


def _reasoning(message: Mapping[str, Any], where: str) -> str | None:
    texts = {text_of(message, name, f"{where}: ") for name in _REASONING if message.get(name)}
    if len(texts) > 1:
        raise BadLine(f"{where} gives its reasoning twice, and otherwise; leave one out.")
    return next(iter(texts), None)


def _content(message: Mapping[str, Any], where: str) -> str:
    """A text, or a list of parts of the type text."""
    content = message.get("content")
    if not isinstance(content, list):
        return text_of(message, "content", f"{where}: ")
    texts = []
    for number, given in enumerate(list_of(content, f"{where}: content"), start=1):
        part = object_of(
            {"type": "text", "text": given} if isinstance(given, str) else given, f"{where}: part {number}"
        )
        if part.get("type") != "text":
            raise BadLine(f"{where}: part {number} has the type {part.get('type')!r}; only text is learned.")
        check_keys(part, {"type", "text"}, f"{where}: part {number}")
        texts.append(text_of(part, "text", f"{where}: part {number}: "))
    return _BETWEEN_PARTS.join(texts)
