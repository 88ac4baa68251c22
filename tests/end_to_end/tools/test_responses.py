"""`/v1/responses` through the official client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from tests.running import BASE, Server

ADD = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]},
}


class Reply(BaseModel):
    answer: Literal["yes", "no"]


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.http}/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(api: openai.OpenAI, **fields: Any) -> Any:
    given = {"model": BASE, "input": "What is 12+35?", "temperature": 0, "max_output_tokens": 12}
    return api.responses.create(**{**given, **fields})


def test_text_is_that_of_a_chat(api: openai.OpenAI, two_versions: str) -> None:
    for model in (BASE, two_versions):
        answer = ask(api, model=model, instructions="Be brief.")
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 12+35?"}]
        chat = api.chat.completions.create(model=model, messages=turns, temperature=0, max_completion_tokens=12)
        assert answer.output_text == chat.choices[0].message.content and answer.model == model
        assert answer.usage.input_tokens == chat.usage.prompt_tokens
        assert answer.usage.output_tokens == chat.usage.completion_tokens and answer.store is False
        assert answer.status == ("incomplete" if chat.choices[0].finish_reason == "length" else "completed")


def test_a_stream_ends_in_the_whole_response(api: openai.OpenAI) -> None:
    whole = ask(api, include=["message.output_text.logprobs"], top_logprobs=2)
    events = list(ask(api, include=["message.output_text.logprobs"], top_logprobs=2, stream=True))
    assert events[0].type == "response.created" and events[1].type == "response.in_progress"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1].response
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in deltas) == last.output_text == whole.output_text
    assert last.status == whole.status
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        assert getattr(last.usage, name) == getattr(whole.usage, name)
    assert whole.output[0].content[0].logprobs == last.output[0].content[0].logprobs != []
    with api.responses.stream(model=BASE, input="a", max_output_tokens=5, temperature=0) as stream:
        assert [event.type for event in stream][-1] in ("response.completed", "response.incomplete")


def test_structured_text(api: openai.OpenAI) -> None:
    answer = api.responses.parse(model=BASE, input="Yes?", text_format=Reply, max_output_tokens=40, temperature=0)
    assert answer.output_parsed is not None and answer.output_parsed.answer in ("yes", "no")


def test_calls_and_their_results(api: openai.OpenAI) -> None:
    fields = {"tools": [ADD], "tool_choice": {"type": "function", "name": "add"}, "max_output_tokens": 120}
    answer = ask(api, **fields)
    (call,) = answer.output
    assert call.type == "function_call" and json.loads(call.arguments)["a"] in (1, 2) and answer.status == "completed"
    events = list(ask(api, **fields, stream=True))
    done = next(event for event in events if event.type == "response.function_call_arguments.done")
    assert done.arguments == call.arguments
    items = [
        {"role": "user", "content": "x"},
        call,
        {"type": "function_call_output", "call_id": call.call_id, "output": "3"},
    ]
    assert ask(api, input=items, tools=[ADD], tool_choice="none").status in ("completed", "incomplete")


def test_refusals_are_in_its_own_words(api: openai.OpenAI, server: Server) -> None:
    for fields, param in (
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"prompt": {"id": 3}}, "prompt.id"),
        ({"input": "x" * 100_000}, "input"),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"$ref": "#"}}}}, "text.format.schema"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools[0].name"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(api, **fields)
        assert caught.value.param == param
    for fields in ({"model": "nobody"}, {"prompt": {"id": "nowhere"}}):
        with pytest.raises(openai.NotFoundError):
            ask(api, **fields)
    raw = httpx.post(f"{server.http}/v1/responses", json={"model": BASE, "input": "a", "max_output_tokens": 2})
    assert raw.headers["x-graft-adapter"] == BASE and Response.model_validate(raw.json())
