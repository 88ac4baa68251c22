"""A request to /v1/responses in the words of /v1/chat/completions, and what is wrong with it in its own."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graft.server.api.http.openai_fields import CHAT, INERT, Inert
from graft.server.api.http.programs.call import calls_program
from graft.server.api.http.programs.given import FIELDS
from graft.server.api.http.responses.items import Turns, read_input
from graft.server.engine.engine import InvalidRequest
from graft.server.errors import BadInput, Violation
from graft.server.runtime.violations import Violations, shown

PATH = "/v1/responses"
# Fields whose meaning is that of the chat's field.
_SAME = ("model", "parallel_tool_calls", "prompt", "stream", "temperature", "top_logprobs", "top_p", *FIELDS)
_OWN = ("include", "input", "instructions", "max_output_tokens", "reasoning", "text", "tool_choice", "tools")
_STATELESS = "nothing is stored here: give the conversation's items in `input`"
_LOGPROBS = "message.output_text.logprobs"
# Reasoning stands in its item as text, so nothing of it needs to be encrypted.
_INCLUDES = (_LOGPROBS, "reasoning.encrypted_content")


def _only(*values: Any, remedy: str = "leave it out") -> Inert:
    def changes_nothing(value: Any, body: Mapping[str, Any]) -> bool:
        return any(type(value) is type(one) and value == one for one in values)

    return Inert(changes_nothing=changes_nothing, remedy=remedy)


_INERT: Mapping[str, Inert] = {
    **{
        name: INERT[name]
        for name in (
            "metadata",
            "moderation",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "user",
        )
    },
    "access_programs": _only(),
    "background": _only(False, remedy="answers are given at once: say false, or leave it out"),
    "context_management": _only([], remedy="the conversation is kept as it is: leave it out"),
    "conversation": _only(remedy=_STATELESS),
    "image": _only(),
    "max_tool_calls": _only(remedy="it bounds OpenAI's own tools, of which there are none: leave it out"),
    "previous_response_id": _only(remedy=_STATELESS),
    "store": _only(False, remedy="nothing is stored here: say false, or leave it out"),
    "stream_options": _only({}, {"include_obfuscation": False}),
    "truncation": _only("disabled", remedy="a conversation is never cut without a word: leave it out"),
}


@dataclass(kw_only=True)
class AskedResponse:
    """`given` are the request's fields that say something; `chat` the same request as a chat's body."""

    given: dict[str, Any]
    chat: dict[str, Any]
    places: dict[str, str]

    @contextlib.contextmanager
    def own_words(self) -> Iterator[None]:
        """What is wrong with the chat, by the fields of the response."""
        try:
            yield
        except BadInput as error:
            told = [Violation(field=self.place(one.field), problem=one.problem) for one in error.violations]
            raise BadInput(*told) from error
        except InvalidRequest as error:
            if error.field is None:
                raise
            place = self.place(error.field)
            problem = str(error).removeprefix(f"{error.field}: ")
            raise InvalidRequest(f"{place}: {problem}", field=place) from error

    def place(self, chat_field: str) -> str:
        """The field of the response that a chat's field came from."""
        for prefix in sorted(self.places, key=len, reverse=True):
            rest = chat_field.removeprefix(prefix)
            if chat_field.startswith(prefix) and rest[:1] in ("", ".", "["):
                return self.places[prefix] + _RENAMED.get(rest, rest)
        return re.sub(r"^(tools\[\d+\]|tool_choice)\.function\b", r"\1", chat_field)


_RENAMED = {
    ".tool_call_id": ".call_id",
    ".id": ".call_id",
    ".function.name": ".name",
    ".function.arguments": ".arguments",
}
_PLACES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
}


def as_chat(body: Mapping[str, Any]) -> AskedResponse:
    """The same request as a chat, which calls a program where the request does.

    Raises `BadInput` with all that is wrong with fields of its own; the chat's are judged where chats are.
    """
    violations = Violations()
    given = _settled(body, violations)
    turns = Turns()
    chat: dict[str, Any] = {name: given[name] for name in _SAME if name in given}
    if "instructions" in given:
        if not isinstance(given["instructions"], str):
            violations.add("instructions", f"is {shown(given['instructions'])}; it must be text")
        turns.add({"role": "system", "content": given["instructions"]}, "instructions")
    if "input" in given or not calls_program(given, CHAT):
        read_input(given.get("input"), turns, violations)
    chat |= _tools(given) | _limits(given, violations) | _texts(given, violations)
    if chat.get("stream") is True:
        chat["stream_options"] = {"include_usage": True}
    violations.raise_any()
    chat["messages"] = turns.messages
    return AskedResponse(given=given, chat=chat, places={**_PLACES, **turns.places})


def _settled(body: Mapping[str, Any], violations: Violations) -> dict[str, Any]:
    given = {name: value for name, value in body.items() if value is not None}
    known = (*_SAME, *_OWN)
    for name, value in violations.until_full(given.items()):
        inert = _INERT.get(name)
        if name in known:
            continue
        if inert is None:
            near = difflib.get_close_matches(name[:80], known, n=1, cutoff=0.75)
            remedy = f"did you mean `{near[0]}`?" if near else "remove it"
            violations.add(name[:80], f"is no field of {PATH}; {remedy}")
        elif not inert.changes_nothing(value, given):
            violations.add(name, f"{shown(value)} is not supported; {inert.remedy}")
    return given


def _tools(given: Mapping[str, Any]) -> dict[str, Any]:
    """Tools and their choice stand flat in responses, and below `function` in chats."""
    chat: dict[str, Any] = {}
    if "tools" in given:
        tools = given["tools"]
        chat["tools"] = [_nested(one) for one in tools] if isinstance(tools, list) else tools
    if "tool_choice" in given:
        choice = given["tool_choice"]
        if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
            listed = choice.get("tools")
            names = [_nested(one) for one in listed] if isinstance(listed, list) else listed
            choice = {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode", "auto"), "tools": names}}
        chat["tool_choice"] = _nested(choice)
    return chat


def _nested(one: Any) -> Any:
    if not isinstance(one, Mapping) or one.get("type") != "function":
        return one
    return {"type": "function", "function": {key: value for key, value in one.items() if key != "type"}}


def _limits(given: Mapping[str, Any], violations: Violations) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    if "max_output_tokens" in given:
        chat["max_completion_tokens"] = given["max_output_tokens"]
    include = given.get("include", [])
    if not isinstance(include, list):
        violations.add("include", f"is {shown(include)}; it must be a list")
        include = []
    for index, one in enumerate(include[:16]):
        if one not in _INCLUDES:
            violations.add(f"include[{index}]", f"{shown(one)} is not supported; there is {', '.join(_INCLUDES)}")
    if _LOGPROBS in include or given.get("top_logprobs"):
        chat["logprobs"] = True
    return chat


def _texts(given: Mapping[str, Any], violations: Violations) -> dict[str, Any]:
    """`text` and `reasoning`."""
    chat: dict[str, Any] = {}
    text, reasoning = given.get("text", {}), given.get("reasoning", {})
    for name, value in (("text", text), ("reasoning", reasoning)):
        if not isinstance(value, Mapping):
            violations.add(name, f"is {shown(value)}; it must be an object")
            return chat
    for key, value in text.items():
        if key == "format" and value is not None:
            chat["response_format"] = _form(value, violations)
        elif key != "format" and not (key == "verbosity" and value in (None, "medium")):
            violations.add(
                f"text.{key[:40]}", f"{shown(value)} is not supported; say it in the prompt, and leave it out"
            )
    for key, value in reasoning.items():
        if key == "effort" and value is not None:
            chat["reasoning_effort"] = value
        elif value is not None:
            remedy = "the reasoning itself stands in its item" if "summary" in key else "remove it"
            violations.add(f"reasoning.{key[:40]}", f"{shown(value)} is not supported; {remedy}")
    return chat


def _form(wanted: Any, violations: Violations) -> Any:
    if not isinstance(wanted, Mapping):
        violations.add("text.format", f"is {shown(wanted)}; it must be an object")
        return None
    if wanted.get("type") != "json_schema":
        return dict(wanted)
    return {"type": "json_schema", "json_schema": {key: value for key, value in wanted.items() if key != "type"}}
