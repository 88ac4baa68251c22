"""What is learned under the public chat templates is what a server sends, and what its parsers read back."""

from __future__ import annotations

import asyncio
import json
from copy import deepcopy
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from graft.adapters.text.problems import BadLine
from graft.server.api.http.openai_fields import CHAT
from graft.server.api.http.openai_request import checked
from graft.server.engine.text import Text
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from graft.server.engine.tools.families import parsers_for
from graft.server.engine.tools.reading import CallReader
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.rows.formats import row_of
from tests.training.batch.templates import NAMES, OWN, REFUSED, ROWS, answers, template, tokenizer_of

ALL = [*NAMES, *OWN]
READ_BACK = [
    name
    for name in ALL
    if any((name, kind) not in REFUSED for kind in ("tools", "reasoning", "reasoned tools"))
    and name not in ("diffusion_gemma", "muse_glimmer", "gptoss")  # which have no parser that reads a whole text
]
NOT_READ = {
    *(("gemma4_v5", kind) for kind in ("reasoning", "reasoned tools")),  # whose reasoning the server does not look for
    *((name, "tools") for name in ("lfm2_2_5", "lfm2_2_5_v2", "lfm2_2_5_vl", "qwen3_5_nothink")),
}
"""What the parser that is taken for a family does not read: of some it takes any answer for reasoning at first."""
_MOST_USED = (
    "qwen3", "qwen2_5", "qwen3_5_think", "llama3", "llama3_1", "gemma3", "phi3", "gptoss", "glm4moe",
    "deepseek_r1_distill", "mistral", "chatml", "zephyr",
)  # fmt: skip


def named(names: list[str]) -> list[Any]:
    """The most used ones in every run of the tests."""
    return [name if name in _MOST_USED else pytest.param(name, marks=pytest.mark.slow) for name in names]


def learned(name: str, kind: str) -> tuple[PreTrainedTokenizerFast, list[int], list[tuple[list[int], list[int]]]]:
    tokenizer, stops = tokenizer_of(template(name))
    examples = RowEncoder(tokenizer, stop_ids=stops).examples(row_of(deepcopy(ROWS[kind])))
    return tokenizer, stops, [one for each in examples for one in answers(each.input_ids, each.supervised)]


def served(tokenizer: PreTrainedTokenizerFast, stops: list[int], kind: str, num: int) -> list[int]:
    """The ids that a request with the first messages of a row becomes."""
    text = Text(Tokenizer(hugging_face=tokenizer, stop_ids=stops), vocab_size=len(tokenizer), max_model_tokens=8192)
    body = {**deepcopy(dict(ROWS[kind])), "model": "base"}
    body["messages"] = [{**one} for one in body["messages"][:num]]
    (prompt,) = asyncio.run(checked(body, CHAT, text).prompts(text))
    return list(prompt.token_ids)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("name", named(ALL))
def test_before_each_answer_stands_what_a_server_sends(name: str, kind: str) -> None:
    if (name, kind) in REFUSED:
        with pytest.raises(BadLine, match=REFUSED[name, kind]):
            learned(name, kind)
        return
    tokenizer, stops, found = learned(name, kind)
    places = [at for at, message in enumerate(ROWS[kind]["messages"]) if message["role"] == "assistant"]
    assert len(found) == len(places)
    ends = {*stops, tokenizer.eos_token_id}
    for place, (before, answer) in zip(places, found, strict=True):
        assert before == served(tokenizer, stops, kind, place)
        assert answer[-1] in ends and not ends & set(answer[:-1])


@pytest.mark.parametrize("name", named(READ_BACK))
def test_what_is_learned_is_read_back_as_the_message(name: str) -> None:
    """By the parsers that the server takes for the template: vLLM's of its family, or our own of calls in text."""
    parsers = parsers_for(template(name))
    for kind in ("tools", "reasoning", "reasoned tools"):
        if (name, kind) in REFUSED or (name, kind) in NOT_READ:
            continue
        tokenizer, stops, found = learned(name, kind)
        messages = [message for message in ROWS[kind]["messages"] if message["role"] == "assistant"]
        ends = [tokenizer.decode([one]) for one in (*stops, tokenizer.eos_token_id)]
        for message, (before, answer) in zip(messages, found, strict=True):
            is_plain = parsers.tool is None and parsers.reasoning is None  # else servers keep control tokens
            text = tokenizer.decode(answer, skip_special_tokens=is_plain)
            text = next((text.removesuffix(end) for end in ends if text.endswith(end)), text)
            reasoning, content, calls = _read(tokenizer, parsers.tool, parsers.reasoning, text, before, answer, kind)
            assert (content or "").strip() == (message["content"] or "")
            wanted = [one["function"] for one in message.get("tool_calls", ())]
            assert [(one["name"], json.loads(one["arguments"])) for one in calls] == [
                (one["name"], json.loads(one["arguments"])) for one in wanted
            ]
            assert (reasoning or "").strip() == message.get("reasoning_content", "")


def _read(
    tokenizer: PreTrainedTokenizerFast,
    tool: str | None,
    reasoning: str | None,
    text: str,
    before: list[int],
    answer: list[int],
    kind: str,
) -> tuple[str | None, str | None, list[dict[str, str]]]:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.parser import ParserManager

    row = deepcopy(dict(ROWS[kind]))
    tools = {"tools": row["tools"], "tool_choice": "auto"} if "tools" in row else {}
    request = ChatCompletionRequest(messages=[{"role": "user", "content": "x"}], model="base", **tools)
    thought, calls, content = None, [], text
    made: Any = ParserManager.get_parser(
        tool_parser_name=tool, reasoning_parser_name=reasoning, enable_auto_tools=True, tokenizer=tokenizer
    )
    if made is not None:
        parser = made(tokenizer, request.tools)
        parser.set_prompt_token_ids(before)
        thought, content, called = parser.parse(
            text, request, enable_auto_tools=tool is not None, model_output_token_ids=answer
        )
        calls = [{"name": one.name, "arguments": one.arguments} for one in called or ()]
    if tool is None:
        reader = CallReader()
        spoken, last = reader.feed(content or ""), reader.end()
        content = spoken.content + last.content
        calls = [{"name": one.name or "", "arguments": one.arguments} for one in spoken.calls]
    return thought, content, calls
