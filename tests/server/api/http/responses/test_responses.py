"""Responses in a chat's words and back; openai's types judge what goes out."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest
from openai._models import construct_type
from openai.types.responses import Response, ResponseStreamEvent, response_create_params
from pydantic import TypeAdapter

from graft.server.api.faults import fault_of
from graft.server.api.http.openai_fields import CHAT
from graft.server.api.http.openai_request import checked
from graft.server.api.http.responses.events import Events
from graft.server.api.http.responses.output import ended, items_of, response_object
from graft.server.api.http.responses.request import as_chat
from graft.server.engine.engine import InvalidRequest
from graft.server.engine.text import Text
from graft.server.errors import BadInput
from tests.server.api.scripted.engine import ScriptedTokenizer

ANY_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
FUNCTION = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Oslo"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
ASKED = {"model": "m", "input": "x"}


def refused(**fields: Any) -> list[str]:
    text = Text(ScriptedTokenizer(), vocab_size=40, max_model_tokens=1000)
    with pytest.raises((BadInput, InvalidRequest)) as caught:
        asked = as_chat({**ASKED, **fields})
        with asked.own_words():
            checked(asked.chat, CHAT, text).check_form()
    return (fault_of(caught.value).param or "").split(", ")


def begun(**given: Any) -> dict[str, Any]:
    return response_object({**ASKED, **given}, response_id="resp_1", created=1.0, fingerprint="sha256:0")


def frame(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call_piece(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"index": index, **more, "function": {**name, "arguments": arguments}}


USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
FRAMES = [
    frame(role="assistant", content=""),
    frame(reasoning="Let me ", reasoning_content="Let me "),
    frame(reasoning="see.", reasoning_content="see."),
    frame(content="I lo"),
    frame(content="ok."),
    frame(tool_calls=[call_piece(0, "", id="c1", type="function", name="weather")]),
    frame(tool_calls=[call_piece(0, '{"city":'), call_piece(0, '"Oslo"}')]),
    frame(tool_calls=[call_piece(1, "{}", id="c2", type="function", name="time")]),
    frame("tool_calls"),
    {"choices": [], "usage": USAGE},
]


def events_of(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    events = Events(begun())
    return [*events.begin(), *(one for each in frames for one in events.of(each)), *events.end()]


def test_events_come_in_openais_order() -> None:
    events = events_of(FRAMES)
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    text = ["output_item.added", "content_part.added"]
    ends = ["content_part.done", "output_item.done"]
    call = ["output_item.added", "function_call_arguments.delta"]
    assert [one["type"].removeprefix("response.") for one in events] == [
        "created",
        "in_progress",
        *text,
        *["reasoning_text.delta"] * 2,
        "reasoning_text.done",
        *ends,
        *text,
        *["output_text.delta"] * 2,
        "output_text.done",
        *ends,
        *call,
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        *call,
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    for one in events:
        told = ANY_EVENT.validate_python(one)
        assert told.type == one["type"] and construct_type(type_=ResponseStreamEvent, value=one).type == one["type"]
    last = events[-1]["response"]
    assert [item["type"] for item in last["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert last["output"][2]["arguments"] == '{"city":"Oslo"}'
    assert {one["item_id"] for one in events if one.get("output_index") == 2 and "item_id" in one} == {
        last["output"][2]["id"]
    }


def test_a_whole_response_is_what_its_events_end_in() -> None:
    message = {
        "role": "assistant",
        "content": "I look.",
        "reasoning": "Let me see.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
            {"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ],
    }
    choice = {"message": message, "finish_reason": "tool_calls"}
    whole = ended(begun(), items_of(choice), {"choices": [choice], "usage": USAGE})
    streamed = events_of(FRAMES)[-1]["response"]
    for response in (whole, streamed):
        told = Response.model_validate(response)
        assert told.output_text == "I look." and told.usage is not None and told.usage.input_tokens == 5
        for item in response["output"]:
            del item["id"]
    assert whole == streamed


def test_a_response_whose_tokens_ran_out_says_so() -> None:
    choice = {"message": {"content": "abc"}, "finish_reason": "length"}
    whole = ended(begun(), items_of(choice), {"choices": [choice]})
    last = events_of([frame(content="abc"), frame("length")])[-1]
    assert last["type"] == "response.incomplete"
    for response in (whole, last["response"]):
        assert response["status"] == response["output"][-1]["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_stream_that_fails_does_not_end_as_if_it_were_complete() -> None:
    events = Events(begun())
    told = [*events.begin(), *events.of(frame(content="a")), *events.failed("it died", "engine_died", None)]
    assert [one["type"] for one in told[-2:]] == ["error", "response.failed"]
    assert [ANY_EVENT.validate_python(one).type for one in told]
    assert told[-1]["response"]["error"]["message"] == "it died"


def test_items_are_turns_of_a_chat() -> None:
    reasoning = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    }
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]}
    items = [{"role": "user", "content": "Rain?"}, reasoning, said, CALL, {**CALL, "call_id": "c2"}, RESULT]
    asked = as_chat({**ASKED, "instructions": "Be brief.", "input": items, "tools": [FUNCTION], "tool_choice": "auto"})
    calls = [
        {"id": one, "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
        for one in ("c1", "c2")
    ]
    assert asked.chat["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]
    assert asked.chat["tools"][0]["function"] == {key: value for key, value in FUNCTION.items() if key != "type"}


def test_fields_have_their_meaning() -> None:
    form = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}
    chat = as_chat(
        {
            **ASKED,
            "max_output_tokens": 9,
            "text": {"format": form, "verbosity": "medium"},
            "reasoning": {"effort": "low", "summary": None},
            "tool_choice": {"type": "function", "name": "weather"},
            "include": ["message.output_text.logprobs"],
            "top_logprobs": 2,
            "stream": True,
            "store": False,
        }
    ).chat
    assert chat["max_completion_tokens"] == 9 and chat["reasoning_effort"] == "low" and chat["logprobs"] is True
    assert chat["response_format"]["json_schema"] == {"name": "a", "schema": {"type": "object"}, "strict": True}
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert chat["stream_options"] == {"include_usage": True} and "store" not in chat


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({"input": None}, ["input"]),
        ({"input": []}, ["input"]),
        ({"input": [3]}, ["input[0]"]),
        ({"input": [{"type": "item_reference", "id": "x"}]}, ["input[0].type"]),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, ["input[0].content[0]"]),
        ({"input": [{"role": "wizard", "content": "x"}]}, ["input[0].role"]),
        ({"input": [{"role": "user", "content": "x"}, RESULT]}, ["input[1].call_id"]),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, ["input[0].call_id"]),
        ({"instructions": 3}, ["instructions"]),
        ({"model": None}, ["model"]),
        ({"max_output_tokens": 0}, ["max_output_tokens"]),
        ({"temperature": 3}, ["temperature"]),
        ({"previous_response_id": "resp_1", "store": True}, ["previous_response_id", "store"]),
        ({"background": True, "truncation": "auto"}, ["background", "truncation"]),
        ({"include": ["file_search_call.results"]}, ["include[0]"]),
        ({"text": {"verbosity": "low"}}, ["text.verbosity"]),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": 3}}}, ["text.format.schema"]),
        ({"reasoning": {"effort": "high"}}, []),
        ({"reasoning": {"summary": "auto"}}, ["reasoning.summary"]),
        ({"tools": [{"type": "web_search"}]}, ["tools[0].type"]),
        ({"tools": [{**FUNCTION, "name": "two words"}]}, ["tools[0].name"]),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}}, ["tool_choice.name"]),
        ({"max_tokens": 5}, ["max_tokens"]),
    ],
    ids=str,
)
def test_every_fault_is_named_in_the_responses_words(fields: dict[str, Any], params: list[str]) -> None:
    if params:
        assert refused(**fields) == params
    else:
        as_chat({**ASKED, **fields})


def test_every_field_of_the_types_is_known() -> None:
    """A new version's new field fails here."""
    hints: dict[str, Any] = {}
    for kind in get_args(response_create_params.ResponseCreateParams):
        hints |= get_type_hints(kind)
    unknown = set()
    for name in hints:
        try:
            as_chat({**ASKED, name: object()})
        except BadInput as error:
            unknown |= {one.field for one in error.violations if "is no field of" in one.problem}
    assert not unknown


def test_a_program_is_called_as_by_a_chat() -> None:
    asked = as_chat({"prompt": {"id": "p"}, "temperature": 0.1, "instructions": "i"})
    assert asked.chat == {
        "prompt": {"id": "p"},
        "temperature": 0.1,
        "messages": [{"role": "system", "content": "i"}],
    }
    asked = as_chat({"model": "prompt:p", "input": "a"})
    assert asked.chat["messages"] == [{"role": "user", "content": "a"}]
