"""Programs called over OpenAI's routes: what was shown and dropped is told beside every answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.server.api.conftest import Server

MANY = [{"inputs": {"review": f"{index}" + "x" * 90}, "output": "yes"} for index in range(20)]
TEXT = {
    "prompt": "{{demonstrations}}Review: {{review}}\nAnswer:",
    "demonstrations": MANY,
    "decoding": {"max_tokens": 4},
}
CHAT = {
    **TEXT,
    "type": "chat",
    "prompt": [
        {"role": "system", "content": "Judge."},
        {"type": "placeholder", "name": "demonstrations"},
        {"role": "user", "content": "Review: {{review}}"},
    ],
}
ROUTES = [
    ("/v1/completions", "text", {"prompt": "Fine."}),
    ("/v1/chat/completions", "chat", {"messages": [{"role": "user", "content": "Fine."}]}),
    ("/v1/responses", "chat", {"input": "Fine."}),
    # Run as a program, as the endpoint is of the other kind.
    ("/v1/chat/completions", "text", {"messages": [{"role": "user", "content": "Fine."}]}),
]


async def push(server: Server, name: str, program: dict[str, Any]) -> None:
    sent = {"name": name, "program": program, "labels": ["production"]}
    answer = await server.http.post("/v1/prompts", json=sent)
    assert answer.status_code == 201, answer.text


async def answered(server: Server, path: str, body: dict[str, Any]) -> httpx.Response:
    answer = await server.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def frames_of(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def check_dropped(told: dict[str, Any]) -> None:
    shown, dropped = told["shown_demonstrations"], told["dropped_demonstrations"]
    assert shown and dropped and sorted(shown + dropped) == list(range(len(MANY)))


@pytest.mark.parametrize(("path", "kind", "said"), ROUTES)
async def test_what_was_dropped_is_told(server: Server, path: str, kind: str, said: dict[str, Any]) -> None:
    await push(server, "many", TEXT if kind == "text" else CHAT)
    body = {"model": "prompt:many", **said}
    whole = (await answered(server, path, body)).json()
    check_dropped(whole["graft"])
    frames = frames_of(await answered(server, path, {**body, "stream": True}))
    told = [index for index, frame in enumerate(frames) if "graft" in frame.get("response", frame)]
    assert told == [len(frames) - 1]
    assert frames[-1].get("response", frames[-1])["graft"] == whole["graft"]


async def test_of_several_choices_the_last_to_end_has_it(server: Server) -> None:
    await push(server, "many", TEXT)
    body = {"model": "prompt:many", "prompt": "Fine.", "n": 3, "temperature": 1, "stream": True}
    body["stream_options"] = {"include_usage": True}
    frames = frames_of(await answered(server, "/v1/completions", body))
    assert ["graft" in frame for frame in frames[-2:]] == [True, False] and frames[-1]["usage"]
    assert sum("graft" in frame for frame in frames) == 1


async def test_where_nothing_is_to_be_told_nothing_is_added(server: Server) -> None:
    await push(server, "plain", {**TEXT, "prompt": "{{review}}", "demonstrations": []})
    answer = await answered(server, "/v1/completions", {"model": "prompt:plain", "prompt": "Fine."})
    assert "graft" not in answer.json()
