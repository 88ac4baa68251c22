"""LangChain: chat, stream, structured output, log-probabilities."""

import json
import sys
from importlib.metadata import version
from typing import Literal

from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

given = json.loads(sys.argv[1])
model = ChatOpenAI(base_url=given["url"], model=given["model"], temperature=0, max_retries=0, max_tokens=12)


class Reply(BaseModel):
    answer: Literal["yes", "no"]
    digit: Literal[1, 2, 3]


turns = [("system", "be brief"), ("human", given["messages"][0]["content"])]
plain = model.invoke(turns)
# The other methods are `function_calling`, and `json_mode`, whose JSON follows no schema.
structured = {
    method: ChatOpenAI(base_url=given["url"], model=given["model"], temperature=0, max_retries=0, max_tokens=60)
    .with_structured_output(Reply, method=method)
    .invoke(turns)
    .model_dump()
    for method in ("json_schema",)
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
            "logprobs": [len(one["top_logprobs"]) for one in told],
            "usage": plain.usage_metadata["total_tokens"],
            "text": text.invoke(given["text"]),
        }
    )
)
