"""An agent's task: two tools, questions, rows that teach a base to call the tools, and the loop that answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import openai

from graft.adapters.chat.shown import TemplateReads, as_rendered
from graft.server.engine.tools.tools import Tool
from graft.training.rootstock.corpus.arithmetic import operands
from graft.training.rootstock.corpus.words import word

Turn = dict[str, Any]
Call = tuple[str, Mapping[str, Any]]


def _tool(name: str, argument: str) -> Tool:
    properties = {argument: {"type": "string"}}
    return Tool(name=name, parameters={"type": "object", "properties": properties, "required": [argument]})


TOOLS = (_tool("price", "of"), _tool("add", "sum"))
_MAX_ANSWERS = 4
_UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, the prices that the tool `price` knows, and the calls that lead to the answer."""

    asked: str
    calls: tuple[Call, ...]
    prices: Mapping[str, str] = field(default_factory=dict)

    def run(self, call: Call) -> str:
        """What a tool finds: `price` in its table, `add` by arithmetic; `unknown` for other arguments."""
        name, arguments = call
        if name == "price":
            return self.prices.get(arguments["of"], _UNKNOWN)
        numbers = re.fullmatch(r"(\d+)\+(\d+)", arguments["sum"])
        return str(sum(map(int, numbers.groups()))) if numbers else _UNKNOWN

    @property
    def answer(self) -> str:
        return f"It is {self.run(self.calls[-1])}."

    def turns(self) -> list[Turn]:
        """The whole conversation, as OpenAI's clients hold it, with arguments as objects."""
        turns: list[Turn] = [{"role": "user", "content": self.asked}]
        for name, arguments in self.calls:
            call = {"id": "call", "type": "function", "function": {"name": name, "arguments": arguments}}
            turns.append({"role": "assistant", "content": "", "tool_calls": [call]})
            turns.append({"role": "tool", "tool_call_id": "call", "content": self.run((name, arguments))})
        return [*turns, {"role": "assistant", "content": self.answer}]


def a_sum(chance: Random, held_out: bool) -> Question:
    """One call of `add`."""
    a, b = operands(chance, 2, held_out=held_out)
    return Question(asked=f"What is {a}+{b}?", calls=(("add", {"sum": f"{a}+{b}"}),))


def a_price(chance: Random, held_out: bool) -> Question:
    """One call of `price`."""
    of = word(chance, held_out=held_out)
    prices = {of: str(chance.randint(10, 99))}
    return Question(asked=f"What is one {of}?", calls=(("price", {"of": of}),), prices=prices)


def a_price_in_parts(chance: Random, held_out: bool) -> Question:
    """Asked like a price: only what `price` finds tells that `add` must be called, and with what."""
    of, (price, tax) = word(chance, held_out=held_out), operands(chance, 2, held_out=held_out)
    parts = f"{price}+{tax}"
    calls = (("price", {"of": of}), ("add", {"sum": parts}))
    return Question(asked=f"What is one {of}?", calls=calls, prices={of: parts})


KINDS: tuple[Callable[[Random, bool], Question], ...] = (a_sum, a_price, a_price_in_parts)


def held_out(num_of_each: int, seed: int) -> list[Question]:
    """Questions whose words and sums are in no row, nor in what the shipped base was trained on."""
    chance = Random(seed)
    return [kind(chance, True) for _ in range(num_of_each) for kind in KINDS]


def shown(turns: list[Turn]) -> list[Turn]:
    """Turns in the form in which the server shows them to a base whose chat template knows no tools."""
    return as_rendered(turns, [tool.listed() for tool in TOOLS], TemplateReads())[0]


def rows(num: int, seed: int) -> str:
    """Fine-tuning rows as JSON lines, each a conversation of two questions of different kinds."""
    chance = Random(seed)
    lines = []
    for _ in range(num):
        turns = [turn for kind in chance.sample(KINDS, 2) for turn in kind(chance, False).turns()]
        messages = [{"role": turn["role"], "content": turn["content"]} for turn in shown(turns)]
        lines.append(json.dumps({"messages": messages}) + "\n")
    return "".join(lines)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a question. `num_prompt_tokens`: of the first request."""

    calls: tuple[Call, ...]
    said: str
    num_prompt_tokens: int


def loop(api: openai.OpenAI, model: str, question: Question) -> Outcome:
    """Asks the model, runs what it calls, adds what that finds, and asks again, until it calls nothing."""
    tools: Any = [tool.listed() for tool in TOOLS]
    messages: list[Any] = [{"role": "user", "content": question.asked}]
    calls: list[Call] = []
    num_tokens: list[int] = []
    said = ""
    for _ in range(_MAX_ANSWERS):
        answer = api.chat.completions.create(
            model=model, messages=messages, tools=tools, tool_choice="auto", temperature=0, max_completion_tokens=256
        )
        assert answer.usage is not None
        num_tokens.append(answer.usage.prompt_tokens)
        message = answer.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            said = message.content or ""
            break
        for called in message.tool_calls:
            assert called.type == "function"
            calls.append((called.function.name, json.loads(called.function.arguments)))
            messages.append({"role": "tool", "tool_call_id": called.id, "content": question.run(calls[-1])})
    return Outcome(calls=tuple(calls), said=said, num_prompt_tokens=num_tokens[0])
