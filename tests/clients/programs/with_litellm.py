"""LiteLLM: chat, stream, JSON schema, tools, log-probabilities, text."""

import json
import sys
from importlib.metadata import version
from typing import Literal

import litellm
from pydantic import BaseModel

given = json.loads(sys.argv[1])
route = {"api_base": given["url"], "api_key": "unused", "temperature": 0, "num_retries": 0}
chat = {**route, "model": f"openai/{given['model']}", "messages": given["messages"], "max_tokens": 12}


class Reply(BaseModel):
    answer: Literal["yes", "no"]
    digit: Literal[1, 2, 3]


plain = litellm.completion(**chat)
streamed = litellm.completion(**chat, stream=True, stream_options={"include_usage": True})
parsed = litellm.completion(**{**chat, "max_tokens": 60}, response_format=Reply)
add = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]},
    },
}
called = {}
for choice in ("required", {"type": "function", "function": {"name": "add"}}):
    asked = {**chat, "max_tokens": 120, "tools": [add], "tool_choice": choice, "parallel_tool_calls": False}
    whole = litellm.completion(**asked).choices[0]
    rebuilt = litellm.stream_chunk_builder(list(litellm.completion(**asked, stream=True))).choices[0]
    called["required" if choice == "required" else "named"] = [
        [(call.function.name, json.loads(call.function.arguments)) for call in one.message.tool_calls]
        for one in (whole, rebuilt)
    ]
told = litellm.completion(**chat, logprobs=True, top_logprobs=2)
text = litellm.text_completion(
    **route, model=f"text-completion-openai/{given['model']}", prompt=given["text"], max_tokens=12
)
print(
    json.dumps(
        {
            "version": version("litellm"),
            "plain": plain.choices[0].message.content,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices),
            "parsed": json.loads(parsed.choices[0].message.content),
            "called": called,
            "logprobs": [len(one.top_logprobs) for one in told.choices[0].logprobs.content],
            "text": text.choices[0].text,
        }
    )
)
