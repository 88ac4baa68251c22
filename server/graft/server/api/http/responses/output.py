"""What a response consists of: its items, and the object around them, as openai's types have them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

Item = dict[str, Any]


def message_item(text: str, logprobs: list[Any] | None = None, *, status: str = "completed") -> Item:
    """What was said."""
    return {
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [text_part(text, logprobs)],
    }


def text_part(text: str, logprobs: list[Any] | None = None) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}


def call_item(call_id: str, name: str, arguments: str, *, status: str = "completed") -> Item:
    """A function that was called. Its result names `call_id`."""
    return {
        "id": new_id("fc"),
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def reasoning_item(text: str, *, status: str = "completed") -> Item:
    """What was reasoned before."""
    part = {"type": "reasoning_text", "text": text}
    return {"id": new_id("rs"), "type": "reasoning", "summary": [], "content": [part], "status": status}


def new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"


def items_of(choice: Mapping[str, Any]) -> list[Item]:
    """A chat's choice as items: reasoning, text, calls. One that says nothing is an empty text."""
    message = choice["message"]
    items = [reasoning_item(message["reasoning"])] if message.get("reasoning") else []
    calls = message.get("tool_calls") or []
    if message.get("content") or not calls:
        # The log-probabilities are those of all tokens, calls and reasoning among them.
        is_all_text = not calls and not items
        logprobs = logprobs_of(choice) if is_all_text else []
        items.append(message_item(message.get("content") or "", logprobs))
    for call in calls:
        items.append(call_item(call["id"], call["function"]["name"], call["function"]["arguments"]))
    if choice.get("finish_reason") == "length":
        items[-1]["status"] = "incomplete"
    return items


def logprobs_of(choice: Mapping[str, Any]) -> list[Any]:
    return list((choice.get("logprobs") or {}).get("content") or ())


def usage_of(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    read, made = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    virtual = {name: read[name] for name in ("virtual_tokens",) if name in read}
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": read.get("cached_tokens") or 0, "cache_write_tokens": 0} | virtual,
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": made.get("reasoning_tokens") or 0},
        "total_tokens": usage["total_tokens"],
    }


def response_object(given: Mapping[str, Any], *, response_id: str, created: float, fingerprint: str) -> dict[str, Any]:
    """A response under way: the request's fields as they are, OpenAI's defaults where it says nothing."""
    text, reasoning = given.get("text") or {}, given.get("reasoning") or {}
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": given.get("instructions"),
        "max_output_tokens": given.get("max_output_tokens"),
        "model": given.get("model", ""),
        "output": [],
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "prompt": given.get("prompt"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "service_tier": "default",
        "store": False,
        "system_fingerprint": fingerprint,
        "temperature": given.get("temperature", 1.0),
        "text": {"format": text.get("format") or {"type": "text"}},
        "tool_choice": given.get("tool_choice", "auto"),
        "tools": given.get("tools", []),
        "top_logprobs": given.get("top_logprobs", 0),
        "top_p": given.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": given.get("user"),
        "metadata": {},
    }


def ended(response: Mapping[str, Any], output: list[Item], last: Mapping[str, Any]) -> dict[str, Any]:
    """The response with what it consists of. One whose tokens ran out is incomplete. `last` is the chat's answer, or
    what its last frames said: choices, usage, and what only programs tell.
    """
    is_cut = any(choice.get("finish_reason") == "length" for choice in last["choices"])
    return {
        **response,
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": output,
        "usage": usage_of(last.get("usage")),
        **({"graft": last["graft"]} if last.get("graft") else {}),
    }
