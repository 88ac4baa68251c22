"""LangChain: chat, stream, structured output by schema and by calling, tools, log-probabilities."""

import json
import sys
from importlib.metadata import version
from typing import Literal

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

given = json.loads(sys.argv[1])
model = ChatOpenAI(base_url=given["url"], model=given["model"], temperature=0, max_retries=0, max_tokens=12)


class Reply(BaseModel):
    answer: Literal["yes", "no"]
    digit: Literal[1, 2, 3]


turns = [("system", "be brief"), ("human", given["messages"][0]["content"])]
plain = model.invoke(turns)
# The third method is `json_mode`, whose JSON follows no schema.
roomy = ChatOpenAI(base_url=given["url"], model=given["model"], temperature=0, max_retries=0, max_tokens=120)
structured = {
    method: roomy.with_structured_output(Reply, method=method).invoke(turns).model_dump()
    for method in ("json_schema", "function_calling")
}


@tool
def add(a: Literal[1, 2], b: Literal[3, 4]) -> int:
    """Adds."""
    return a + b


@tool
def say(it: Literal["yes", "no"]) -> str:
    """Says it."""
    return it


called = {}
for choice in ("add", "required"):
    bound = roomy.bind_tools([add, say], tool_choice=choice)
    first = bound.invoke(turns)
    pieces = list(bound.stream(turns))
    joined = sum(pieces[1:], pieces[0])
    results = [{"add": add, "say": say}[call["name"]].invoke(call) for call in first.tool_calls]
    last = roomy.invoke([*turns, first, *results]).content
    streamed = [(call["name"], call["args"]) for call in joined.tool_calls]
    called[choice] = {
        "calls": [(call["name"], call["args"]) for call in first.tool_calls],
        "streamed": streamed,
        "invalid": len(first.invalid_tool_calls),
        "results": [one.content for one in results],
        "last": last,
    }
told = model.bind(logprobs=True, top_logprobs=2).invoke(turns).response_metadata["logprobs"]["content"]
text = OpenAI(base_url=given["url"], model=given["model"], temperature=0, max_retries=0, max_tokens=12)
print(
    json.dumps(
        {
            "version": version("langchain-openai"),
            "plain": plain.content,
            "streamed": "".join(chunk.content for chunk in model.stream(turns)),
            "structured": structured,
            "called": called,
            "logprobs": [len(one["top_logprobs"]) for one in told],
            "usage": plain.usage_metadata["total_tokens"],
            "text": text.invoke(given["text"]),
        }
    )
)
