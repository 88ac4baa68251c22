"""instructor: its JSON-schema modes."""

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


client = instructor.from_openai(openai.OpenAI(base_url=given["url"], max_retries=0), mode=instructor.Mode.JSON_SCHEMA)
reply = client.chat.completions.create(
    model=given["model"],
    messages=given["messages"],
    response_model=Reply,
    max_retries=0,
    max_tokens=60,
    temperature=0,
)
print(json.dumps({"version": version("instructor"), "reply": reply.model_dump()}))
