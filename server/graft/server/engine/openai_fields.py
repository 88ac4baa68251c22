"""The request fields that Graft honours; any other is refused by name, never ignored."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from graft.server.engine.engine import InvalidRequest

_SHARED_FIELDS = frozenset(
    {
        "model",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_tokens",
        "n",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "user",
        # Beyond OpenAI's: vLLM's names for what open models are sampled with.
        "allowed_token_ids",
        "bad_words",
        "ignore_eos",
        "include_stop_str_in_output",
        "min_p",
        "min_tokens",
        "repetition_penalty",
        "skip_special_tokens",
        "stop_token_ids",
        "structured_outputs",
        "top_k",
    }
)

CHAT_FIELDS = _SHARED_FIELDS | {
    "chat_template_kwargs",
    "max_completion_tokens",
    "messages",
    "parallel_tool_calls",
    "reasoning_effort",
    "tool_choice",
    "tools",
    "top_logprobs",
}

COMPLETION_FIELDS = _SHARED_FIELDS | {"echo", "prompt", "suffix"}


def check_fields(body: Iterable[str] | Mapping[str, Any], known: frozenset[str]) -> None:
    """Raises `InvalidRequest` naming the first unknown field and the nearest known one."""
    for name in body:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else "remove it"
            raise InvalidRequest(f"`{name}` is not supported by this endpoint; {hint}", field=name)


def check_tools(body: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest` where a tool may be called: reading calls needs a parser of the model family's format."""
    if body.get("tools") and body.get("tool_choice") != "none":
        remedy = "leave `tools` out, or say tool_choice `none`"
        raise InvalidRequest(f"calling tools is not supported yet; {remedy}", field="tools")
