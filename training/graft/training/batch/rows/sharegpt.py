"""Rows of ``conversations`` as ShareGPT's exports have them, with LLaMA-Factory's calls and observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.adapters.text.problems import BadLine
from graft.training.batch.rows.fields import check_keys, json_of, kind_of, object_of, text_of
from graft.training.batch.rows.messages import conversation, learnable
from graft.training.batch.rows.row import Conversation, Turn
from graft.training.batch.rows.tools import Calls, tools_of

_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "call",
    "observation": "tool",
    "tool": "tool",
}


def shared(row: Mapping[str, Any]) -> Conversation:
    """Raises ``BadLine``."""
    check_keys(row, {"conversations", "system", "tools"})
    given = row["conversations"]
    if not isinstance(given, list) or not given:
        raise BadLine(f"conversations must be a list with at least one message, not {kind_of(given)}.")
    if isinstance(given[0], dict) and "role" in given[0] and "from" not in given[0]:
        system = [{"role": "system", "content": row["system"]}] if "system" in row else []
        return conversation({"messages": [*system, *given], "tools": row.get("tools")})
    calls = Calls()
    turns = [_turn(one, f"message {number}", calls) for number, one in enumerate(given, start=1)]
    if row.get("system"):
        turns.insert(0, Turn(role="system", content=text_of(row, "system"), is_learned=False))
    return Conversation(turns=learnable(turns), tools=tools_of(row.get("tools")))


def _turn(given: Any, where: str, calls: Calls) -> Turn:
    message = object_of(given, where)
    role = _ROLES.get(str(message.get("from")))
    if role is None:
        raise BadLine(f"{where} is from {message.get('from')!r}; it must be one of {', '.join(_ROLES)}.")
    is_said = role in ("assistant", "call")
    check_keys(message, {"from", "value", *(["weight"] if is_said else [])}, where)
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        raise BadLine(f"{where} has weight {weight!r}; it must be 0 or 1.")
    if role == "call":
        made = json_of(message.get("value"), f"{where}: value")
        found = calls.made(made if isinstance(made, list) else [made], where)
        return Turn(role="assistant", content="", is_learned=weight == 1, calls=found)
    content = text_of(message, "value", f"{where}: ", may_be_empty=not is_said)
    if role == "tool":
        call_id, name = calls.answered(None, None, where)
        return Turn(role=role, content=content, is_learned=False, call_id=call_id, name=name)
    return Turn(role=role, content=content, is_learned=is_said and weight == 1)
