"""Tools over HTTP on the shipped base, which was trained on none: what a grammar alone makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.running import BASE, Server

USER = {"role": "user", "content": "What is 12+35?"}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two digits.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"enum": [1, 2, 3]}, "b": {"enum": [4, 5]}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
SAY = {
    "type": "function",
    "function": {
        "name": "say",
        "parameters": {"type": "object", "properties": {"it": {"enum": ["yes", "no"]}}, "required": ["it"]},
    },
}
NAMED = {"type": "function", "function": {"name": "add"}}


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.http}/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(api: openai.OpenAI, **fields: Any) -> Any:
    given = {"model": BASE, "messages": [USER], "tools": [ADD, SAY], "max_completion_tokens": 200, "temperature": 0}
    return api.chat.completions.create(**{**given, **fields})


def put_together(chunks: list[Any]) -> tuple[str, list[dict[str, str]], str | None]:
    """As the client's users do it: content, calls and the reason why it ended."""
    content, calls, finish = "", [], None
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        content += choice.delta.content or ""
        finish = choice.finish_reason or finish
        for piece in choice.delta.tool_calls or ():
            if piece.id:
                assert piece.index == len(calls) and piece.type == "function"
                calls.append({"name": piece.function.name, "arguments": ""})
            calls[piece.index]["arguments"] += piece.function.arguments
    return content, calls, finish


def check_call(name: str, arguments: str) -> None:
    value = json.loads(arguments)
    if name == "add":
        assert set(value) == {"a", "b"} and value["a"] in (1, 2, 3) and value["b"] in (4, 5)
    else:
        assert name == "say" and value["it"] in ("yes", "no")


@pytest.mark.parametrize("seed", range(3))
def test_a_named_function_is_called(api: openai.OpenAI, two_versions: str, seed: int) -> None:
    for model in (BASE, two_versions):
        (choice,) = ask(api, model=model, tool_choice=NAMED, temperature=1, seed=seed).choices
        (call,) = choice.message.tool_calls
        assert call.function.name == "add" and call.id.startswith("call_") and choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        check_call("add", call.function.arguments)


@pytest.mark.parametrize("parallel", [True, False])
def test_required_calls_stream_as_they_come_whole(api: openai.OpenAI, parallel: bool) -> None:
    fields = {"tool_choice": "required", "parallel_tool_calls": parallel, "max_completion_tokens": 600}
    (choice,) = ask(api, **fields).choices
    content, calls, finish = put_together(list(ask(api, **fields, stream=True)))
    assert [(call.function.name, call.function.arguments) for call in choice.message.tool_calls] == [
        (call["name"], call["arguments"]) for call in calls
    ]
    assert content == "" and finish == choice.finish_reason == "tool_calls" and (parallel or len(calls) == 1)
    for call in calls:
        check_call(call["name"], call["arguments"])


def test_choices_logprobs_and_usage_stay_right(api: openai.OpenAI) -> None:
    fields = {"tool_choice": NAMED, "n": 3, "temperature": 1, "seed": 3, "logprobs": True, "top_logprobs": 2}
    answer = ask(api, **fields)
    for choice in answer.choices:
        (call,) = choice.message.tool_calls
        check_call(call.function.name, call.function.arguments)
        spelled = b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode()
        assert call.function.arguments in spelled
    chunks = list(ask(api, **fields, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
    assert chunks[-1].usage.total_tokens == answer.usage.total_tokens
    for index, choice in enumerate(answer.choices):
        own = [each for chunk in chunks for each in chunk.choices if each.index == index]
        tokens = [token.token for each in own if each.logprobs for token in each.logprobs.content]
        assert tokens == [token.token for token in choice.logprobs.content]


def test_auto_speaks_or_calls_and_tools_may_be_turned_off(api: openai.OpenAI) -> None:
    for seed in range(3):
        (choice,) = ask(api, temperature=1, seed=seed, max_completion_tokens=40).choices
        for call in choice.message.tool_calls or ():
            check_call(call.function.name, call.function.arguments)
        assert choice.message.tool_calls or choice.message.content is not None
    (choice,) = ask(api, tool_choice="none", max_completion_tokens=5).choices
    assert choice.message.tool_calls is None and choice.finish_reason in ("stop", "length")


def test_results_go_back_and_nothing_of_them_is_dropped(api: openai.OpenAI) -> None:
    first = ask(api, tool_choice=NAMED)
    call = first.choices[0].message.tool_calls[0]
    history = [USER, first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "7"}]
    short = ask(api, messages=history, tool_choice="none", max_completion_tokens=5)
    longer = [*history[:2], {**history[2], "content": "7 and no more than that"}]
    assert ask(api, messages=longer, tool_choice="none").usage.prompt_tokens > short.usage.prompt_tokens
    with pytest.raises(openai.BadRequestError) as caught:
        ask(api, messages=[USER, {"role": "tool", "tool_call_id": "call_0", "content": "7"}])
    assert caught.value.param == "messages[1].tool_call_id"


def test_all_faults_of_tools_come_at_once(api: openai.OpenAI) -> None:
    broken = {"type": "function", "function": {"name": "b", "parameters": {"properties": {"a": {"$ref": "#/no"}}}}}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(api, tools=[{"type": "function", "function": {}}, ADD, ADD, {"type": "web_search"}], tool_choice="any")
    assert caught.value.param == "tools[0].function.name, tools[2].function.name, tools[3].type, tool_choice"
    with pytest.raises(openai.BadRequestError) as caught:
        ask(api, tools=[ADD, broken], tool_choice="required")
    assert caught.value.param == "tools[1].function.parameters"
