"""Families' parsers behind the OpenAI backend: the engine says what a model of the family would."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from graft.adapters.base.base import Base
from graft.server.engine.engine import Prompt
from graft.server.engine.openai import OpenAIRequest, Reply
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from graft.server.engine.tools.families import Parsers
from graft.server.engine.tools.tools import Calling, Tool, ToolUse
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.openai import VllmOpenAIBackend
from graft.server.engine.vllm.parsers import usable_parsers
from graft.server.settings.settings import InvalidSetting
from tests.server.engine.vllm.test_openai import Caller

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = tuple(Tool(name=name, parameters=CITY) for name in ("weather", "time"))
AUTO = ToolUse(tools=TOOLS, allowed=TOOLS, calling=Calling.AUTO)
HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
QWEN = "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>"
GRANITE = '<|tool_call|>[{"name": "weather", "arguments": {"city": "Oslo"}}]'
PYTHONIC = '[weather(city="Oslo"), time(city="Rome")]'


class Saying:
    """The engine, but for what it says."""

    def __init__(self, llm: Any, text: str, tokenizer: Tokenizer) -> None:
        self._llm, self._ids = llm, tokenizer.encode_continuation(text)
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    async def generate(
        self, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        before = ""
        for number in range(1, len(self._ids) + 1):
            text = self._tokenizer.finished(self._ids[:number])
            ends = number == len(self._ids)
            is_delta = params.output_kind is RequestOutputKind.DELTA
            output = CompletionOutput(
                index=0,
                text=text[len(before) :] if is_delta else text,
                token_ids=self._ids[number - 1 : number] if is_delta else self._ids[:number],
                cumulative_logprob=None,
                logprobs=None,
                finish_reason="stop" if ends else None,
            )
            before = text
            yield RequestOutput(request_id, None, prompt["prompt_token_ids"], None, [output], ends)


async def said(
    engine: VllmEngine, base: Base, parsers: Parsers, text: str, *, tools: ToolUse | None = None, **fields: Any
) -> Reply:
    tokenizer = Tokenizer.from_folder(base.path)
    backend = VllmOpenAIBackend(lambda: engine, base.name, parsers)
    backend._over_current_engine()._llm._llm = Saying(engine.llm, text, tokenizer)  # type: ignore[assignment]
    messages = [{"role": "user", "content": "x"}]
    prompt = Prompt(token_ids=tokenizer.render_chat(messages))
    request = OpenAIRequest(fields={"messages": messages, **fields}, prompts=[prompt], tools=tools)
    caller = Caller(request_id="said")
    caller.meter.begins(0, len(prompt.token_ids), num_choices=1)
    return await backend.answer(request, adapter=None, request_id="said", meter=caller.meter)


async def whole_and_streamed(*args: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The message as it comes whole, and put together from its pieces; each with `finish_reason`."""
    reply = await said(*args, **options)
    assert reply.body is not None
    (choice,) = reply.body["choices"]
    whole = {**choice["message"], "finish_reason": choice["finish_reason"]}
    built: dict[str, Any] = {"content": "", "reasoning": "", "reasoning_content": "", "calls": []}
    frames = (await said(*args, **options, stream=True)).frames
    assert frames is not None
    async with aclosing(frames):
        async for frame in frames:
            (choice,) = frame["choices"]
            for name in ("content", "reasoning", "reasoning_content"):
                built[name] += choice["delta"].get(name) or ""
            for piece in choice["delta"].get("tool_calls", ()):
                if piece["index"] == len(built["calls"]):
                    assert piece["id"] and piece["function"]["name"] and piece["type"] == "function"
                    built["calls"].append({"name": piece["function"]["name"], "arguments": ""})
                built["calls"][piece["index"]]["arguments"] += piece["function"].get("arguments") or ""
            built["finish_reason"] = choice["finish_reason"]
    return whole, built


@pytest.mark.parametrize(
    ("parser", "text", "names"),
    [
        (None, HERMES, ["weather"]),
        (None, f"I look.\n{HERMES}\n{HERMES}", ["weather", "weather"]),
        ("qwen3_coder", QWEN, ["weather"]),
        ("granite", GRANITE, ["weather"]),
        ("pythonic", PYTHONIC, ["weather", "time"]),
    ],
)
async def test_calls_are_read_in_the_familys_form(
    engine: VllmEngine, base: Base, parser: str | None, text: str, names: list[str]
) -> None:
    whole, built = await whole_and_streamed(engine, base, Parsers(tool=parser), text, tools=AUTO)
    calls = [call["function"] for call in whole["tool_calls"]]
    assert [call["name"] for call in calls] == [call["name"] for call in built["calls"]] == names
    for call, streamed in zip(calls, built["calls"], strict=True):
        assert json.loads(call["arguments"]) == json.loads(streamed["arguments"])
    assert json.loads(calls[0]["arguments"]) == {"city": "Oslo"}
    assert whole["finish_reason"] == built["finish_reason"] == "tool_calls"
    assert (whole["content"] or "") == built["content"] == ("I look." if text.startswith("I") else "")


async def test_without_tools_nothing_is_read_of_calls(engine: VllmEngine, base: Base) -> None:
    for parser in (None, "qwen3_coder"):
        whole, built = await whole_and_streamed(engine, base, Parsers(tool=parser), HERMES)
        assert whole["content"] == built["content"] == HERMES and "tool_calls" not in whole


@pytest.mark.parametrize(
    ("parser", "text"),
    [("qwen3", "<think>\n2 and 2\n</think>\n\nIt is 4."), ("seed_oss", "<seed:think>2 and 2</seed:think>It is 4.")],
)
async def test_reasoning_stands_under_both_its_names(engine: VllmEngine, base: Base, parser: str, text: str) -> None:
    whole, built = await whole_and_streamed(engine, base, Parsers(reasoning=parser), text)
    assert whole["reasoning"] == whole["reasoning_content"] and whole["reasoning"].strip() == "2 and 2"
    assert built["reasoning"] == built["reasoning_content"] and built["reasoning"].strip() == "2 and 2"
    assert whole["content"].strip() == built["content"].strip() == "It is 4."


async def test_calls_follow_reasoning(engine: VllmEngine, base: Base) -> None:
    text = f"<think>\nI must look.\n</think>\n\n{HERMES}"
    whole, built = await whole_and_streamed(engine, base, Parsers(reasoning="qwen3"), text, tools=AUTO)
    assert whole["reasoning"].strip() == built["reasoning"].strip() == "I must look."
    assert [call["function"]["name"] for call in whole["tool_calls"]] == ["weather"] and len(built["calls"]) == 1
    assert not (whole["content"] or "").strip() and not built["content"].strip()


def test_parsers_that_are_named_must_be_usable(base: Base) -> None:
    tokenizer = Tokenizer.from_folder(base.path).hugging_face
    with pytest.raises(InvalidSetting, match=r"must be one of .*hermes.*mistral"):
        usable_parsers("", tokenizer, tool="hermess", reasoning=None)
    with pytest.raises(InvalidSetting, match=r"must be none or one of .*qwen3"):
        usable_parsers("", tokenizer, tool=None, reasoning="qwen")
    with pytest.raises(InvalidSetting, match=r"tool_call_parser mistral: .*; name another"):
        usable_parsers("", tokenizer, tool="mistral", reasoning=None)
    # The family's own, which this tokenizer has no tokens for, is left out.
    assert usable_parsers("[TOOL_CALLS]", tokenizer, tool=None, reasoning=None) == Parsers()
    assert usable_parsers("<think></think>", tokenizer, tool="hermes", reasoning="none") == Parsers()
    assert usable_parsers("<tool_call><function=", tokenizer, tool=None, reasoning="qwen3") == Parsers(
        tool="qwen3_coder", reasoning="qwen3"
    )
