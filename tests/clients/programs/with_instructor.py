"""instructor: its JSON-schema mode, and its usual one, which calls a function by name; whole and streamed."""

import json
import sys
from importlib.metadata import version
from typing import Literal

import instructor
import openai
from pydantic import BaseModel

given = json.loads(sys.argv[1])


class Reply(BaseModel):
    answer: Literal["yes", "no"]
    digit: Literal[1, 2, 3]


asked = {
    "model": given["model"],
    "messages": given["messages"],
    "response_model": Reply,
    "max_retries": 0,
    "max_tokens": 120,
    "temperature": 0,
}
replies = {}
for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS):
    client = instructor.from_openai(openai.OpenAI(base_url=given["url"], max_retries=0), mode=mode)
    replies[mode.value] = client.chat.completions.create(**asked).model_dump()
partial = list(client.chat.completions.create_partial(**asked))[-1].model_dump()
print(json.dumps({"version": version("instructor"), "replies": replies, "partial": partial}))
