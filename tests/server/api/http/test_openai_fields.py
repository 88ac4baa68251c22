"""Every field of OpenAI's requests, as openai-python's types list them: absent, at its default, and meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

import pytest
from openai.types import completion_create_params as text_types
from openai.types.chat import completion_create_params as chat_types

from graft.server.api.http.openai_fields import CHAT, COMPLETIONS, Endpoint
from graft.server.api.http.openai_request import CheckedBody, bounded, checked
from graft.server.engine.engine import Prompt
from graft.server.engine.text import Text
from graft.server.errors import BadInput
from graft.server.runtime.violations import MAX_VIOLATIONS
from tests.server.api.scripted.engine import ScriptedTokenizer

PROMPTS = {CHAT.path: {"messages": [{"role": "user", "content": "x"}]}, COMPLETIONS.path: {"prompt": "x"}}
TYPES = {CHAT.path: chat_types, COMPLETIONS.path: text_types}
ENDPOINTS = pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS], ids=lambda endpoint: endpoint.path)


@dataclass(frozen=True)
class Row:
    """Values that OpenAI's reference calls a field's default, or that change no answer; values that do."""

    inert: tuple[Any, ...] = ()
    refused: tuple[Any, ...] = ()


# By openai's reference; a new version's new field fails `test_every_field_of_the_types_has_a_row`.
ROWS = {
    "audio": Row(refused=({"voice": "alloy", "format": "wav"},)),
    "best_of": Row(inert=(1, 1.0), refused=(2, 0, "1", True)),
    "echo": Row(inert=(False,), refused=("yes", 1)),
    "frequency_penalty": Row(inert=(0, 0.0, 2, -2.0), refused=(2.1, -2.1, "0", True)),
    "function_call": Row(inert=("none", "auto"), refused=({"name": "f"},)),
    "functions": Row(inert=([],), refused=([{"name": "f"}],)),
    "logit_bias": Row(inert=({}, {"3": 100}), refused=({"x": 1}, {"40": 1}, {"-1": 1}, {"3": 101}, {"3": "1"}, [3])),
    "logprobs": Row(refused=("1", -1, 21)),
    "max_completion_tokens": Row(inert=(1, 16.0), refused=(0, -1, 1.5, "16", 2**62)),
    "max_tokens": Row(inert=(1, 16.0), refused=(-1, 1.5, "16", 2**62)),
    "metadata": Row(inert=({},), refused=({"a": "b"},)),
    "modalities": Row(inert=(["text"],), refused=(["text", "audio"], [], "text")),
    "moderation": Row(refused=({"model": "omni-moderation-latest"},)),
    "n": Row(inert=(1,), refused=(0, -1, 65, 10**9, "1", True, 1.5)),
    "parallel_tool_calls": Row(inert=(True, False), refused=("no",)),
    "prediction": Row(refused=({"type": "content", "content": "x"},)),
    "presence_penalty": Row(inert=(0, 0.0, 2, -2.0), refused=(2.1, -2.1, "0")),
    "prompt_cache_key": Row(inert=("a",), refused=(1,)),
    "prompt_cache_options": Row(inert=({}, {"mode": "implicit"}), refused=({"mode": "explicit"},)),
    "prompt_cache_retention": Row(inert=("in_memory",), refused=("24h",)),
    "reasoning_effort": Row(inert=("none",), refused=(1, {})),
    "response_format": Row(inert=({"type": "text"},), refused=("json", 1)),
    "safety_identifier": Row(inert=("a",), refused=(1,)),
    "seed": Row(inert=(0, 1, -1, 2**63 - 1, -(2**63)), refused=(2**63, 0.5, "1", True)),
    "service_tier": Row(inert=("auto", "default"), refused=("flex", "scale", "priority", "fast")),
    "stop": Row(
        inert=([], "a", ["a"] * 16),
        refused=("", [""], ["a"] * 17, [1], 1, {}, ["a" * 257], ["a", None]),
    ),
    "store": Row(inert=(False,), refused=(True, 0)),
    "stream": Row(inert=(False,), refused=("true", 1)),
    "stream_options": Row(inert=({},), refused=({"include_usage": True}, {"include_usage": 1}, [])),
    "suffix": Row(inert=("",), refused=("x",)),
    "temperature": Row(inert=(0, 1, 2, 0.0), refused=(-0.1, 2.1, "1", True)),
    "tool_choice": Row(inert=("none", "auto"), refused=("required", {"type": "function", "function": {"name": "f"}})),
    "tools": Row(inert=([],), refused=([{"type": "function"}], {"type": "function"}, [3])),
    "top_logprobs": Row(inert=(0,), refused=(1, -1, 21, "1")),
    "top_p": Row(inert=(1, 0, 0.5), refused=(1.1, -0.1, "1")),
    "user": Row(inert=("a",), refused=(1,)),
    "verbosity": Row(inert=("medium",), refused=("low", "high")),
    "web_search_options": Row(refused=({}, {"search_context_size": "low"})),
}
# They belong to one of the endpoints, and mean something there.
OF_ONE = {
    CHAT.path: set(),
    COMPLETIONS.path: {"max_completion_tokens", "top_logprobs"},
}


def fields_of(endpoint: Endpoint) -> set[str]:
    types = TYPES[endpoint.path]
    streaming, plain = types.CompletionCreateParamsStreaming, types.CompletionCreateParamsNonStreaming
    return {*get_type_hints(streaming), *get_type_hints(plain)} - {"model", endpoint.prompt}


def check(endpoint: Endpoint, fields: dict[str, Any]) -> CheckedBody:
    text = Text(ScriptedTokenizer(), vocab_size=40, max_model_tokens=1000)
    return checked({"model": "m", **PROMPTS[endpoint.path], **fields}, endpoint, text)


def refused_fields(endpoint: Endpoint, fields: dict[str, Any]) -> list[str]:
    with pytest.raises(BadInput) as caught:
        check(endpoint, fields)
    return [violation.field for violation in caught.value.violations]


def rows(kind: str) -> Iterator[Any]:
    for endpoint in (CHAT, COMPLETIONS):
        for name, row in ROWS.items():
            if name in OF_ONE[endpoint.path]:
                continue
            for value in getattr(row, kind):
                yield pytest.param(endpoint, name, value, id=f"{endpoint.path} {name} {str(value)[:40]}")


@ENDPOINTS
def test_every_field_of_the_types_has_a_row(endpoint: Endpoint) -> None:
    assert fields_of(endpoint) <= ROWS.keys()


@ENDPOINTS
def test_null_is_absence_for_every_field(endpoint: Endpoint) -> None:
    plain = check(endpoint, {})
    for name in ROWS:
        assert check(endpoint, {name: None}) == plain, name
    assert check(endpoint, dict.fromkeys(ROWS)) == plain


@pytest.mark.parametrize(("endpoint", "name", "value"), rows("inert"))
def test_what_changes_nothing_is_accepted(endpoint: Endpoint, name: str, value: Any) -> None:
    check(endpoint, {name: value})


@pytest.mark.parametrize(("endpoint", "name", "value"), rows("refused"))
def test_what_is_meant_and_unusable_is_refused_by_its_name(endpoint: Endpoint, name: str, value: Any) -> None:
    named = refused_fields(endpoint, {name: value})
    assert len(named) <= 2 and {field.split(".")[0].split("[")[0] for field in named} == {name}


@ENDPOINTS
def test_all_of_it_is_said_at_once(endpoint: Endpoint) -> None:
    fields = {name: row.refused[0] for name, row in ROWS.items() if name not in OF_ONE[endpoint.path] and row.refused}
    named = refused_fields(endpoint, fields)
    assert len(named) == MAX_VIOLATIONS
    few = dict(list(fields.items())[:20])
    assert {field.split(".")[0].split("[")[0] for field in refused_fields(endpoint, few)} == set(few)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temperatur", "did you mean `temperature`?"),
        ("max_new_tokens", ""),
        ("cache_salt", "remove it"),
        ("zz", "remove it"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(BadInput) as caught:
        check(COMPLETIONS, {name: 1})
    (violation,) = caught.value.violations
    assert violation.field == name and hint in violation.problem


def test_what_belongs_together_is_checked_together() -> None:
    assert refused_fields(CHAT, {"max_tokens": 5, "max_completion_tokens": 6}) == ["max_tokens"]
    check(CHAT, {"max_tokens": 5, "max_completion_tokens": 5})
    assert refused_fields(CHAT, {"max_tokens": 5, "min_tokens": 6}) == ["min_tokens"]
    check(CHAT, {"logprobs": True, "top_logprobs": 20})
    assert refused_fields(COMPLETIONS, {"max_tokens": 0}) == ["max_tokens"]
    check(COMPLETIONS, {"max_tokens": 0, "echo": True, "logprobs": 1})
    assert refused_fields(CHAT, {"max_tokens": 0}) == ["max_tokens"]
    check(COMPLETIONS, {"n": 3, "best_of": 3})
    assert refused_fields(COMPLETIONS, {"min_tokens": 50}) == ["min_tokens"]
    check(CHAT, {"min_tokens": 50})
    assert refused_fields(COMPLETIONS, {"n": 3, "best_of": 2}) == ["best_of"]
    assert refused_fields(COMPLETIONS, {"prompt": ["x"] * 3, "n": 43}) == ["prompt"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": 2.0000001}, "is 2.0000001; it must lie in [0, 2]"),
        ({"temperature": 2.0999999046325684}, "is 2.1; it must lie in [0, 2]"),
        ({"seed": 1.00000001}, "is 1.00000001; it must be an integer"),
        ({"prompt": [1.0]}, "is 1.0; token ids are integers, 0 to 39"),
        ({"prompt": [True]}, "is true; token ids are integers, 0 to 39"),
        ({"best_of": 0}, "0 is not supported; it must be `n` (1 where that is left out): all choices are answered"),
        ({"model": 5}, "is 5: name the base or an adapter, as text"),
        ({"model": ""}, 'is "": name the base or an adapter, as text'),
        ({"model": None}, "is missing: name the base or an adapter, as text"),
        ({"bad_words": [" "]}, 'is " "; it must be text that is not blank'),
    ],
    ids=str,
)
def test_a_refusal_shows_what_is_wrong_with_the_value(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        check(COMPLETIONS, fields)
    (violation,) = caught.value.violations
    assert violation.problem == words


def test_the_least_tokens_must_fit_behind_the_prompt() -> None:
    text = Text(ScriptedTokenizer(), vocab_size=40, max_model_tokens=1000)
    prompts = (Prompt(token_ids=[1]), Prompt(token_ids=[1] * 996))
    assert bounded({"max_tokens": 50, "min_tokens": 4}, prompts, text) == {"max_tokens": 50, "min_tokens": 4}
    with pytest.raises(BadInput) as caught:
        bounded({"max_tokens": 50, "min_tokens": 50}, prompts, text)
    (violation,) = caught.value.violations
    assert violation.field == "min_tokens" and "996 tokens" in violation.problem and "holds 4" in violation.problem


TURN = "messages[1]"


@pytest.mark.parametrize(
    ("turn", "field"),
    [
        ({"role": "wizard", "content": "x"}, f"{TURN}.role"),
        ({"role": "tool", "content": "x", "tool_call_id": "a"}, f"{TURN}.tool_call_id"),
        ({"role": "tool", "content": "x"}, f"{TURN}.tool_call_id"),
        ({"role": "function", "name": "f", "content": "x"}, f"{TURN}.role"),
        ({"role": "user", "content": "x", "tool_calls": [{"id": "a"}]}, f"{TURN}.tool_calls"),
        ({"role": "user", "content": "x", "tool_call_id": "a"}, f"{TURN}.tool_call_id"),
        ({"role": "user", "content": "x", "reasoning": "hm"}, f"{TURN}.reasoning"),
        ({"role": "assistant", "content": "x", "reasoning": 3}, f"{TURN}.reasoning"),
        ({"role": "assistant", "content": "x", "reasoning": "a", "reasoning_content": "b"}, f"{TURN}.reasoning"),
        ({"role": 3, "content": "x"}, f"{TURN}.role"),
        ({"content": "x"}, f"{TURN}.role"),
        ({"role": "user"}, f"{TURN}.content"),
        ({"role": "user", "content": None}, f"{TURN}.content"),
        ({"role": "user", "content": []}, f"{TURN}.content"),
        ({"role": "user", "content": 3}, f"{TURN}.content"),
        ({"role": "user", "content": {"type": "text", "text": "x"}}, f"{TURN}.content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, f"{TURN}.content[0].type"),
        ({"role": "user", "content": [{"text": "x"}]}, f"{TURN}.content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, f"{TURN}.content[0].text"),
        ({"role": "user", "content": [{"type": "text", "text": 3}]}, f"{TURN}.content[0].text"),
        ({"role": "user", "content": [{"type": "text", "text": "x", "weight": 3}]}, f"{TURN}.content[0].weight"),
        ({"role": "user", "content": [3]}, f"{TURN}.content[0]"),
        ({"role": "assistant", "content": None, "tool_calls": None}, f"{TURN}.content"),
        ({"role": "assistant", "content": "x", "tool_calls": [{"id": "a"}]}, f"{TURN}.tool_calls[0].function.name"),
        ({"role": "assistant", "content": "x", "tool_calls": {"id": "a"}}, f"{TURN}.tool_calls"),
        (
            {"role": "assistant", "content": "x", "tool_calls": [{"function": {"name": "f"}}]},
            f"{TURN}.tool_calls[0].id",
        ),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f"}}, f"{TURN}.function_call"),
        ({"role": "assistant", "content": "x", "refusal": "no"}, f"{TURN}.refusal"),
        ({"role": "user", "content": "x", "name": "Ann"}, f"{TURN}.name"),
        ("x", TURN),
    ],
    ids=str,
)
def test_nothing_of_a_conversation_is_dropped(turn: Any, field: str) -> None:
    named = refused_fields(CHAT, {"messages": [{"role": "user", "content": "x"}, turn]})
    assert field in named and all(name.startswith(TURN) for name in named)


def test_what_clients_put_into_a_history_is_taken() -> None:
    turns = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        # As openai's `message.model_dump()` writes an answer.
        {
            "role": "assistant",
            "content": "c",
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
            "tool_calls": None,
        },
        {"role": "user", "content": ""},
    ]
    assert check(CHAT, {"messages": turns}).turns == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": ""},
    ]


@pytest.mark.parametrize("messages", [[], None, "x", {}, 3])
def test_a_chat_has_turns(messages: Any) -> None:
    assert refused_fields(CHAT, {"messages": messages}) == ["messages"]


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        ("", "prompt"),
        (None, "prompt"),
        ([], "prompt"),
        (3, "prompt"),
        ({}, "prompt"),
        ([1, 40], "prompt[1]"),
        ([-1], "prompt[0]"),
        ([1.5], "prompt[0]"),
        ([True], "prompt[0]"),
        ([2**63], "prompt[0]"),
        (["a", ""], "prompt[1]"),
        ([[1], []], "prompt[1]"),
        ([[1], [2, 40]], "prompt[1][1]"),
        (["a", 3], "prompt[1]"),
        (["a", [1]], "prompt[1]"),
        ([[1], "a"], "prompt[1]"),
    ],
    ids=str,
)
def test_an_unusable_prompt_is_named(prompt: Any, field: str) -> None:
    assert refused_fields(COMPLETIONS, {"prompt": prompt}) == [field]


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"enable_thinking": True}, []),
        ({"enable_thinking": {"a": 1}}, []),
        ({"unknown": False}, []),
        ({"unknown": None}, []),
        ({"unknown": True}, ["chat_template_kwargs.unknown"]),
        ({"messages": []}, ["chat_template_kwargs.messages"]),
        ({"add_generation_prompt": False}, ["chat_template_kwargs.add_generation_prompt"]),
        ({"a": 1, "b": 2}, ["chat_template_kwargs.a", "chat_template_kwargs.b"]),
    ],
    ids=str,
)
def test_what_the_chat_template_does_not_read_is_refused(given: dict[str, Any], refused: list[str]) -> None:
    if refused:
        assert refused_fields(CHAT, {"chat_template_kwargs": given}) == refused
    else:
        check(CHAT, {"chat_template_kwargs": given})
