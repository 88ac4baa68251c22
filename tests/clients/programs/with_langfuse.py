"""Langfuse: prompts are written and read; nothing is traced."""

import json
import sys
from importlib.metadata import version

from langfuse import Langfuse
from langfuse.api import NotFoundError

given = json.loads(sys.argv[1])
client = Langfuse(public_key="pk-any", secret_key="sk-any", host=given["url"].removesuffix("/v1"))
NAME = "of-langfuse/team/greet"


def known(prompt):
    return [prompt.version, prompt.labels]


client.create_prompt(name=NAME, prompt="Say hello to {{name}}.", labels=["production"], config={"owner": "jo"})
text = client.get_prompt(NAME, cache_ttl_seconds=0)
chat_turns = [
    {"role": "system", "content": "Be {{how}}."},
    {"type": "placeholder", "name": "history"},
    {"role": "user", "content": "{{text}}"},
]
client.create_prompt(name=NAME, type="chat", prompt=chat_turns, labels=["canary"], commit_message="as a chat")
chat = client.get_prompt(NAME, type="chat", label="canary", cache_ttl_seconds=0)
history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
by_version = client.get_prompt(NAME, type="chat", version=2, cache_ttl_seconds=0)
moved = client.update_prompt(name=NAME, version=2, new_labels=["production"])
try:
    client.api.prompts.get("of-langfuse%2Fnothing")
    missing = None
except NotFoundError as error:
    missing = error.status_code
fallback = client.get_prompt("of-langfuse/nothing", fallback="as before", max_retries=0)
listed = client.api.prompts.list(name=NAME)
print(
    json.dumps(
        {
            "version": version("langfuse"),
            "text": [text.compile(name="Jane"), text.version, text.labels, text.config],
            "chat": chat.compile(how="kind", text="bye", history=history),
            "by_label": known(chat),
            "by_version": known(by_version),
            "moved": known(moved),
            "missing": missing,
            "fallback": fallback.prompt,
            "listed": [[one.name, one.versions] for one in listed.data],
        }
    )
)
