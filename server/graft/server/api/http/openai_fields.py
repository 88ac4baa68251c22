"""Which fields of an OpenAI request are honoured, which values of the others change nothing, and what is refused."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graft.server.runtime.violations import Violations, shown

_MAX_FIELD_CHARACTERS = 80

_SHARED = frozenset(
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


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One of OpenAI's routes: its path, the fields honoured there, and the one that holds the prompt."""

    path: str
    honoured: frozenset[str]
    prompt: str


CHAT = Endpoint(
    path="/v1/chat/completions",
    prompt="messages",
    honoured=_SHARED
    | {
        "chat_template_kwargs",
        "max_completion_tokens",
        "messages",
        "parallel_tool_calls",
        "reasoning_effort",
        "tool_choice",
        "tools",
        "top_logprobs",
    },
)
COMPLETIONS = Endpoint(path="/v1/completions", prompt="prompt", honoured=_SHARED | {"echo", "prompt"})

Body = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Inert:
    """A field that is known and not honoured: the values of it that change nothing, and what to do about others."""

    changes_nothing: Callable[[Any, Body], bool]
    remedy: str = "leave it out"


def _one_of(*values: Any, remedy: str = "leave it out") -> Inert:
    # `False == 0` and `1 == True`: a value counts with its type.
    return Inert(
        changes_nothing=lambda value, body: any(type(value) is type(one) and value == one for one in values),
        remedy=remedy,
    )


def _any(kind: type, remedy: str) -> Inert:
    return Inert(changes_nothing=lambda value, body: isinstance(value, kind), remedy=remedy)


def _as_many_as_wanted(value: Any, body: Body) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == (body.get("n") or 1)


_OLDER = "it is OpenAI's older form: give `tools` and `tool_choice` of /v1/chat/completions"
_NO_TOOLS = "tools are called in /v1/chat/completions: leave it out"
_ONLY_TEXT = "only text is read and written here: leave it out"
# Where a field is not honoured: values that every server has by default, or that say who asks and how to keep house.
INERT: Mapping[str, Inert] = {
    # OpenAI's.
    "audio": _one_of(remedy=_ONLY_TEXT),
    "best_of": Inert(
        changes_nothing=_as_many_as_wanted, remedy="it must be `n` (1 where that is left out): all choices are answered"
    ),
    "function_call": _one_of("none", "auto", remedy=_OLDER),
    "echo": _one_of(False),
    "functions": _one_of([], remedy=_OLDER),
    "metadata": _one_of({}, remedy="nothing is stored here: leave it out"),
    "modalities": _one_of(["text"], remedy='only text is written here: say ["text"], or leave it out'),
    "moderation": _one_of(),
    "parallel_tool_calls": _one_of(True, False, remedy="it must be true or false"),
    "prediction": _one_of(),
    "prompt_cache_key": _any(str, "it must be text"),
    "prompt_cache_options": _one_of({}, {"mode": "implicit"}, {"mode": "implicit", "ttl": "30m"}),
    "prompt_cache_retention": _one_of("in_memory", "in-memory", remedy="prompts are kept in memory only: leave it out"),
    "reasoning_effort": _one_of("none"),
    "safety_identifier": _any(str, "it must be text"),
    "service_tier": _one_of("auto", "default", remedy="there is one tier here: say `auto`, or leave it out"),
    "store": _one_of(False, remedy="nothing is stored here: say false, or leave it out"),
    "suffix": _one_of("", remedy="text is written after a prompt only: leave it out"),
    "tool_choice": _one_of("none", "auto", remedy=_NO_TOOLS),
    "tools": _one_of([], remedy=_NO_TOOLS),
    "user": _any(str, "it must be text"),
    "verbosity": _one_of("medium", remedy="say in the prompt how long the answer should be, and leave it out"),
    "web_search_options": _one_of(),
    # vLLM's, which clients of it send.
    "add_generation_prompt": _one_of(True),
    "continue_final_message": _one_of(False),
    "include_reasoning": _one_of(True),
    "length_penalty": _one_of(1.0, 1),
    "priority": _one_of(0),
    "return_token_ids": _one_of(False),
    "return_tokens_as_token_ids": _one_of(False),
    "spaces_between_special_tokens": _one_of(True),
    "use_beam_search": _one_of(False),
}


def settled(body: Body, endpoint: Endpoint, violations: Violations) -> dict[str, Any]:
    """The honoured fields that say something: `null` is absence, and what changes nothing is left out.

    What is meant and not supported is a violation under its name, each.
    """
    given = {name: value for name, value in body.items() if value is not None}
    for name, value in violations.until_full(given.items()):
        if name in endpoint.honoured:
            continue
        inert = INERT.get(name)
        if inert is None:
            violations.add(name[:_MAX_FIELD_CHARACTERS], f"is no field of {endpoint.path}; {_hint(name, endpoint)}")
        elif not inert.changes_nothing(value, given):
            violations.add(name, f"{shown(value)} is not supported; {inert.remedy}")
    return {name: value for name, value in given.items() if name in endpoint.honoured}


def _hint(name: str, endpoint: Endpoint) -> str:
    near = difflib.get_close_matches(name[:_MAX_FIELD_CHARACTERS], endpoint.honoured, n=1, cutoff=0.75)
    return f"did you mean `{near[0]}`?" if near else "remove it"
