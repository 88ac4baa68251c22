"""What a chat says of tools: what is offered, what is called, and every fault by its field at once."""

from __future__ import annotations

from typing import Any

import pytest

from graft.server.api.http.openai_fields import CHAT
from graft.server.api.http.openai_request import CheckedBody, checked
from graft.server.engine.text import Text
from graft.server.engine.tools.tools import Calling, ToolUse
from graft.server.errors import BadInput
from graft.server.runtime.roles import role_problem
from tests.server.api.scripted.engine import ScriptedTokenizer

USER = {"role": "user", "content": "x"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: Any = "weather", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA, **more}}


def check(**fields: Any) -> CheckedBody:
    text = Text(ScriptedTokenizer(), vocab_size=40, max_model_tokens=1000)
    return checked({"model": "m", "messages": [USER], **fields}, CHAT, text)


def use(**fields: Any) -> ToolUse:
    found = check(**fields).tools
    assert found is not None
    return found


def refused(**fields: Any) -> list[str]:
    with pytest.raises(BadInput) as caught:
        check(**fields).check_form()
    return [violation.field for violation in caught.value.violations]


def test_what_is_called() -> None:
    tools = [tool("a"), tool("b"), tool("c")]
    named = {"type": "function", "function": {"name": "b"}}
    assert use(tools=tools).calling is use(tools=tools, tool_choice="auto").calling is Calling.AUTO
    assert use(tools=tools, tool_choice="none").calling is Calling.NONE
    required = use(tools=tools, tool_choice="required", parallel_tool_calls=False)
    assert required.calling is Calling.REQUIRED and required.at_most_one and len(required.allowed) == 3
    one = use(tools=tools, tool_choice=named)
    assert one.calling is Calling.REQUIRED and one.at_most_one and [each.name for each in one.allowed] == ["b"]
    listed = [{"type": "function", "function": {"name": name}} for name in "ac"]
    some = use(tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": listed}})
    assert [each.name for each in some.allowed] == ["a", "c"] and len(some.tools) == 3
    assert check(tools=[]).tools is None and check(tool_choice="none").tools is None


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({"tools": [tool(None)]}, ["tools[0].function.name"]),
        ({"tools": [tool("two words")]}, ["tools[0].function.name"]),
        ({"tools": [tool(""), tool("a" * 65)]}, ["tools[0].function.name", "tools[1].function.name"]),
        ({"tools": [tool(), tool()]}, ["tools[1].function.name"]),
        ({"tools": [{"type": "web_search"}, {"type": "function"}]}, ["tools[0].type", "tools[1].function"]),
        ({"tools": [tool(parameters=[])]}, ["tools[0].function.parameters"]),
        ({"tools": [tool(parameters={"type": "string"})]}, ["tools[0].function.parameters"]),
        ({"tools": [tool(parameters={"properties": {"a": {"pattern": "a{500}"}}})]}, ["tools[0].function.parameters"]),
        ({"tools": [tool(description=3, strict="yes")]}, ["tools[0].function.description", "tools[0].function.strict"]),
        ({"tools": [tool(returns={})]}, ["tools[0].function.returns"]),
        ({"tools": [tool(str(index)) for index in range(129)]}, ["tools"]),
        ({"tools": [tool()], "tool_choice": "any"}, ["tool_choice"]),
        ({"tools": [tool()], "tool_choice": {"type": "custom"}}, ["tool_choice.type"]),
        ({"tools": [tool()], "tool_choice": {"type": "function"}}, ["tool_choice.function.name"]),
        (
            {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            ["tool_choice.function.name"],
        ),
        ({"tool_choice": "required"}, ["tool_choice"]),
        ({"tools": [tool()], "parallel_tool_calls": 1}, ["parallel_tool_calls"]),
        ({"tools": [tool(None)], "tool_choice": 3, "n": 0}, ["n", "tools[0].function.name", "tool_choice"]),
    ],
    ids=str,
)
def test_every_fault_is_named(fields: dict[str, Any], params: list[str]) -> None:
    assert refused(**fields) == params


def test_a_schema_that_cannot_be_enforced_is_refused_where_it_would_be() -> None:
    unenforceable = tool("second", parameters={"type": "object", "not": {"required": ["a"]}, "unevaluatedItems": {}})
    broken = tool("third", parameters={"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}})
    tools = [tool("first"), unenforceable, broken]
    params = refused(tools=tools, tool_choice="required")
    assert params and set(params) <= {"tools[1].function.parameters", "tools[2].function.parameters"}
    assert "tools[2].function.parameters" in params
    check(tools=tools, tool_choice={"type": "function", "function": {"name": "first"}}).check_form()


def test_another_form_beside_calls_is_refused() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    assert refused(tools=[tool()], tool_choice="required", response_format=form) == ["response_format"]
    assert refused(tools=[tool()], structured_outputs={"regex": "a"}) == ["structured_outputs"]
    for choice in ("none", "auto"):
        check(tools=[tool()], tool_choice=choice, response_format=form).check_form()
        check(tools=[tool()], tool_choice=choice, structured_outputs={"json": SCHEMA}).check_form()
    check(tools=[tool()], tool_choice="required", response_format={"type": "text"}).check_form()


def test_over_grpc_there_are_no_tools_yet() -> None:
    assert "over HTTP only" in (role_problem("tool") or "") and role_problem("user") is None


def test_turns_of_tools_are_read() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    turns = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "hm"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]},
    ]
    assert check(messages=turns).turns[1:] == [
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "tool_calls": [{**call, "function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "rain"},
    ]
