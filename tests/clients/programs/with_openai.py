"""openai: chat, stream, parsed JSON, log-probabilities, scoring."""

import json
import sys
from typing import Literal

import openai
from pydantic import BaseModel

given = json.loads(sys.argv[1])
client = openai.OpenAI(base_url=given["url"], max_retries=0)
chat = {"model": given["model"], "messages": given["messages"], "temperature": 0, "max_completion_tokens": 12}


class Reply(BaseModel):
    answer: Literal["yes", "no"]
    digit: Literal[1, 2, 3]


def counts(usage):
    """Without how many came from the prefix cache: the second asking finds there what the first left."""
    return [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens]


plain = client.chat.completions.create(**chat)
streamed = list(client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}))
parsed = client.chat.completions.parse(**{**chat, "max_completion_tokens": 60}, response_format=Reply)
told = client.chat.completions.create(**chat, logprobs=True, top_logprobs=3)
scored = client.completions.create(
    model=given["model"], prompt=given["text"], max_tokens=0, echo=True, logprobs=1, temperature=0
)
history = [*given["messages"], plain.choices[0].message, *given["messages"]]
again = client.chat.completions.create(**{**chat, "messages": history})
print(
    json.dumps(
        {
            "version": openai.__version__,
            "plain": plain.choices[0].message.content,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices),
            "usage": [counts(plain.usage), counts(streamed[-1].usage)],
            "parsed": parsed.choices[0].message.parsed.model_dump(),
            "bytes": [one.bytes for one in told.choices[0].logprobs.content],
            "scored": scored.choices[0].logprobs.token_logprobs,
            "generated": scored.usage.completion_tokens,
            "again": again.choices[0].finish_reason,
        }
    )
)
