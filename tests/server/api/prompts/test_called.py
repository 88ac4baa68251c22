"""Programs called over OpenAI's routes: what they are given, and what is told beside every answer."""

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


SOURCED = {"prompt": "{{sources}}\nQ: {{question}}\nA:", "sourcing": {"count": 2}, "decoding": {"max_tokens": 4}}
DOCUMENTS = [
    {"id": "zoo", "text": "The zoo opens at nine.", "title": "Opening"},
    {"id": "bus", "text": "The bus to the zoo leaves at eight."},
    {"id": "tea", "text": "Tea is made of leaves."},
]
GIVEN: dict[str, Any] = {"variables": {"question": "When does the zoo open?"}, "documents": DOCUMENTS}
CALLS = [
    ("/v1/completions", {"model": "prompt:sourced"}),
    ("/v1/chat/completions", {"model": "prompt:sourced", "messages": []}),
    ("/v1/chat/completions", {"model": "base", "prompt": {"id": "sourced"}, "messages": []}),
    ("/v1/responses", {"prompt": {"id": "sourced"}}),
]


@pytest.mark.parametrize(("path", "asked"), CALLS)
async def test_documents_come_with_the_request(server: Server, path: str, asked: dict[str, Any]) -> None:
    """The prompt is as long as its preview, which shows the two passages about the zoo."""
    await push(server, "sourced", SOURCED)
    shown = (await answered(server, "/v1/prompts/sourced/preview", GIVEN)).json()
    assert shown["parts"][0]["text"] == (
        "[1] Opening: The zoo opens at nine.\n[2] bus: The bus to the zoo leaves at eight.\n"
        "Q: When does the zoo open?\nA:"
    )
    usage = (await answered(server, path, {**asked, **GIVEN})).json()["usage"]
    assert usage.get("prompt_tokens", usage.get("input_tokens")) == shown["num_tokens"]


@pytest.mark.parametrize(("path", "asked"), CALLS)
async def test_what_is_wrong_with_documents_is_said_by_field(server: Server, path: str, asked: dict[str, Any]) -> None:
    await push(server, "sourced", SOURCED)
    for documents, fields in (
        ("x", ["documents"]),
        ([{"id": "a", "text": "x"}] * 1001, ["documents"]),
        ([3, {"text": 1, "title": 2}], ["documents[0]", "documents[1].id", "documents[1].text", "documents[1].title"]),
        ([{"id": "", "text": "x", "body": "y"}], ["documents[0].body", "documents[0].id"]),
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], ["documents[1].id"]),
    ):
        answer = await server.http.post(path, json={**asked, **GIVEN, "documents": documents})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, ", ".join(fields)), answer.text
    answer = await server.http.post(path, json={**asked, **GIVEN, "withhold_rationale": "yes"})
    assert answer.json()["error"]["param"] == "withhold_rationale"


async def test_documents_that_no_program_reads_are_refused(server: Server) -> None:
    await push(server, "plain", {"prompt": "{{question}}"})
    for asked in ({"model": "prompt:plain"}, {"model": "base", "prompt": "x"}):
        answer = await server.http.post("/v1/completions", json={**asked, **GIVEN})
        assert answer.status_code == 400 and "documents" in answer.json()["error"]["param"]


async def test_a_rationale_is_withheld_where_the_request_says_so(server: Server) -> None:
    await push(server, "steps", {"prompt": "{{question}}", "reasoning": {"method": "chain_of_thought"}})
    asked = {"model": "prompt:steps", "messages": [{"role": "user", "content": "1+1?"}], "max_tokens": 4}
    for withheld in (False, True):
        answer = await answered(server, "/v1/chat/completions", {**asked, "withhold_rationale": withheld})
        message = answer.json()["choices"][0]["message"]
        assert message["content"] and ("reasoning" in message) is not withheld


@pytest.mark.parametrize("program", [TEXT, CHAT])
async def test_a_preview_is_what_is_asked(server: Server, program: dict[str, Any]) -> None:
    await push(server, "a/many", {**program, "decoding": {"max_tokens": 8}})
    await push(server, "a/many", program)
    given = {"variables": {"review": "Fine."}}
    shown = (await answered(server, "/v1/prompts/a/many/preview", given)).json()
    assert (shown["object"], shown["id"], shown["version"]) == ("prompt.preview", "a/many", "2")
    check_dropped(shown)
    assert shown["num_tokens"] <= shown["max_model_tokens"] - 4 and shown["variables"] == ["review"]
    assert any("left out" in notice for notice in shown["notices"])
    path, said = ("/v1/completions", {}) if program is TEXT else ("/v1/chat/completions", {"messages": []})
    whole = (await answered(server, path, {"model": "prompt:a/many", **given, **said})).json()
    assert whole["usage"]["prompt_tokens"] == shown["num_tokens"]
    assert whole["graft"]["shown_demonstrations"] == shown["shown_demonstrations"]
    for named in ({"version": 1}, {"version": "1"}):
        assert (await answered(server, "/v1/prompts/a/many/preview", {**given, **named})).json()["version"] == "1"
    for wrong, field in (
        ({"variables": {"x": 1}}, "variables.x"),
        ({"label": "a", "version": 1}, "version"),
        ({"a": 1}, "a"),
    ):
        answer = await server.http.post("/v1/prompts/a/many/preview", json={**given, **wrong})
        assert answer.status_code == 400 and field in answer.json()["error"]["param"], answer.text
    assert (await server.http.post("/v1/prompts/nosuch/preview", json=given)).status_code == 404
