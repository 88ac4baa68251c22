"""Programs over HTTP: `/v1/prompts`, and Langfuse's paths."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from graft.client import AsyncClient, ResourceExhausted
from graft.server.prompting.catalog.prompt import PromptVersion
from tests.server.api.conftest import Server, StartServer

GREET = "team/greet"
PATHS = [quote(GREET, safe=""), GREET]
TEXT = {"prompt": "Say hello to {{name}}.", "config": {"owner": "jo"}}
CHAT = {
    "type": "chat",
    "prompt": [
        {"role": "system", "content": "Be {{how}}."},
        {"type": "placeholder", "name": "history"},
        {"role": "user", "content": "{{text}}"},
    ],
}
LANGFUSE = "/api/public/v2/prompts"


async def push(server: Server, program: dict[str, Any] = TEXT, name: str = GREET, **others: Any) -> dict[str, Any]:
    answer = await server.http.post("/v1/prompts", json={"name": name, "program": program, **others})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return dict(answer.json()["error"])


@pytest.mark.parametrize("path", PATHS)
async def test_a_program_comes_back_as_it_was_sent(server: Server, path: str) -> None:
    made = await push(server, labels=["production"], tags=["a"], commit_message="first")
    assert (made["id"], made["object"], made["version"], made["program"]) == (GREET, "prompt.version", "1", TEXT)
    got = (await server.http.get(f"/v1/prompts/{path}")).json()
    assert got == {key: value for key, value in made.items() if key != "notices"}
    for query in ("version=1", "label=production", "label=latest", f"version={made['digest'][7:15]}"):
        assert (await server.http.get(f"/v1/prompts/{path}?{query}")).json() == got


async def test_lists_go_on_where_they_ended(server: Server) -> None:
    for number in range(5):
        await push(server, name=f"many/{number}", labels=["canary"] if number % 2 else [])
    first = (await server.http.get("/v1/prompts?limit=3")).json()
    assert (first["has_more"], first["last_id"]) == (True, "many/2")
    rest = (await server.http.get(f"/v1/prompts?limit=3&after={first['last_id']}")).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == [f"many/{one}" for one in range(5)]
    assert rest["has_more"] is False
    found = (await server.http.get("/v1/prompts?prefix=many/&label=canary")).json()["data"]
    assert [one["labels"][0]["label"] for one in found] == ["canary", "canary"]


@pytest.mark.parametrize("path", PATHS)
async def test_labels_move_by_compare_and_set(server: Server, path: str) -> None:
    await push(server)
    await push(server, CHAT)
    where = f"/v1/prompts/{path}/labels/production"
    label = (await server.http.post(where, json={"version": "1", "etag": ""})).json()
    assert (label["id"], label["version"]) == (f"{GREET}:production", "1")
    moved = (await server.http.post(where, json={"version": "latest", "etag": label["etag"]})).json()
    assert moved["version"] == "2"
    error = await refused(await server.http.post(where, json={"version": 1, "etag": label["etag"]}), 409)
    assert moved["etag"] in error["message"]
    versions = (await server.http.get(f"/v1/prompts/{path}/versions")).json()["data"]
    assert [(one["version"], one["labels"]) for one in versions] == [("2", ["production", "latest"]), ("1", [])]
    assert (await server.http.delete(where)).json()["deleted"]
    await refused(await server.http.delete(where), 404)
    assert (await server.http.delete(f"/v1/prompts/{path}?version=1")).json()["id"] == f"{GREET}@1"
    await refused(await server.http.delete(f"/v1/prompts/{path}"), 409)
    assert (await server.http.delete(f"/v1/prompts/{path}?force=true")).json()["deleted"]


async def test_what_is_wrong_is_said_at_once(server: Server) -> None:
    wrong = {"name": "a b", "program": {"promt": 1}, "labels": ["latest"], "tags": [""]}
    error = await refused(await server.http.post("/v1/prompts", json=wrong), 400)
    assert set(error["param"].split(", ")) == {"prompt", "labels[0]", "tags[0]", "program.promt", "program.prompt"}
    error = await refused(await server.http.post("/v1/prompts", json={"program": 3, "lables": []}), 400)
    assert set(error["param"].split(", ")) == {"lables", "program", "name"}
    error = await refused(await server.http.get("/v1/prompts?limit=0&foo=1"), 400)
    assert set(error["param"].split(", ")) == {"limit", "foo"}
    await push(server)
    error = await refused(await server.http.get(f"/v1/prompts/{GREET}"), 404)
    assert "no label 'production', which a bare name means; its labels: latest (version 1)" in error["message"]
    error = await refused(await server.http.get(f"/v1/prompts/{GREET}?version=1&label=latest"), 400)
    assert error["param"] == "version"
    await refused(await server.http.post("/v1/prompts", content=b'{"name": "x", "program": ' + b"[" * 10_000), 400)
    await refused(await server.http.post("/v1/prompts", content=b" " * (5 << 20)), 413)


@pytest.mark.parametrize("path", PATHS)
async def test_langfuses_shapes(server: Server, path: str) -> None:
    await push(server, labels=["production"], tags=["a"], commit_message="first")
    await push(server, CHAT, labels=["canary"])
    text = (await server.http.get(f"{LANGFUSE}/{path}")).json()
    assert text.pop("createdAt") == text.pop("updatedAt")
    assert text == {
        "name": GREET, "version": 1, "type": "text", "prompt": TEXT["prompt"], "config": {"owner": "jo"},
        "labels": ["production"], "tags": ["a"], "commitMessage": "first", "resolutionGraph": None,
    }  # fmt: skip
    chat = (await server.http.get(f"{LANGFUSE}/{path}?label=canary")).json()
    assert chat["prompt"] == [
        {"type": "chatmessage", "role": "system", "content": "Be {{how}}."},
        {"type": "placeholder", "name": "history"},
        {"type": "chatmessage", "role": "user", "content": "{{text}}"},
    ]
    assert (await server.http.get(f"{LANGFUSE}/{path}?version=2")).json() == chat


async def test_what_langfuse_was_sent_is_a_program(server: Server) -> None:
    turns = [{"type": "chatmessage", **CHAT["prompt"][0]}, {"type": "message", **CHAT["prompt"][2]}, CHAT["prompt"][1]]
    body = {"name": GREET, "type": "chat", "prompt": turns, "labels": ["production"], "config": {"a": 1}, "tags": None}
    made = await server.http.post(LANGFUSE, json=body)
    assert made.status_code == 201 and made.json()["labels"] == ["production", "latest"]
    program = (await server.http.get(f"/v1/prompts/{GREET}")).json()["program"]
    assert program == {"type": "chat", "prompt": [CHAT["prompt"][one] for one in (0, 2, 1)], "config": {"a": 1}}
    await server.http.post(LANGFUSE, json={"name": GREET, "prompt": "{{x}}"})
    moved = await server.http.patch(
        f"{LANGFUSE}/{quote(GREET, safe='')}/versions/2", json={"newLabels": ["production"]}
    )
    assert moved.json()["labels"] == ["production", "latest"]
    assert (await server.http.get(f"{LANGFUSE}/{GREET}")).json()["prompt"] == "{{x}}"


async def test_langfuses_list(server: Server) -> None:
    for name in "abc":
        await push(server, name=name, labels=["production"], tags=["t"] if name == "b" else [])
    await push(server, CHAT, name="a")
    listed = (await server.http.get(f"{LANGFUSE}?limit=2")).json()
    assert listed["meta"] == {"page": 1, "limit": 2, "totalItems": 3, "totalPages": 2}
    first = listed["data"][0]
    assert (first["name"], first["type"], first["versions"]) == ("a", "chat", [1, 2])
    assert first["labels"] == ["production", "latest"]
    (only,) = (await server.http.get(f"{LANGFUSE}?label=production&name=a")).json()["data"]
    assert (only["versions"], only["type"]) == ([1], "text")
    assert [one["name"] for one in (await server.http.get(f"{LANGFUSE}?tag=t")).json()["data"]] == ["b"]
    assert (await server.http.get(f"{LANGFUSE}?fromUpdatedAt=2099-01-01T00:00:00Z")).json()["data"] == []
    assert (await server.http.get(f"{LANGFUSE}?page=9")).json()["data"] == []


async def test_langfuses_list_reads_only_what_it_shows(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all programs of a tenant takes minutes; the page has three, whose heads are read beside the loop."""
    for number in range(9):
        await push(server, {**TEXT, "config": {"number": number}}, name=f"many/{number}")
    read, heading = list[str](), PromptVersion.__dict__["heading"].func

    def recorded(version: PromptVersion) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        read.append(version.prompt)
        return heading(version)

    monkeypatch.setattr(PromptVersion, "heading", property(recorded))
    monkeypatch.setattr(PromptVersion, "program", property(lambda version: pytest.fail("it was read whole")))
    listed = (await server.http.get(f"{LANGFUSE}?limit=3&page=2")).json()["data"]
    assert [one["lastConfig"] for one in listed] == [{"number": number} for number in (3, 4, 5)]
    assert read == [f"many/{number}" for number in (3, 4, 5)]


async def test_langfuses_errors(server: Server) -> None:
    missing = await server.http.get(f"{LANGFUSE}/nothing")
    assert (missing.status_code, missing.json()["error"]) == (404, "LangfuseNotFoundError")
    assert "the prompt 'nothing' does not exist" in missing.json()["message"]
    for url in (f"{LANGFUSE}/a?version=x", f"{LANGFUSE}?filter=[]", f"{LANGFUSE}?limit=1000"):
        answer = await server.http.get(url)
        assert (answer.status_code, answer.json()["error"]) == (400, "InvalidRequestError"), answer.text
    wrong = await server.http.post(LANGFUSE, json={"name": "x", "prompt": 3, "config": []})
    assert "config" in wrong.json()["message"] and wrong.status_code == 400


def basic(password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"pk-anything:{password}".encode()).decode()}


async def test_a_password_is_the_tenants_token(start_server: StartServer, tmp_path: Path) -> None:
    tokens = tmp_path / "tenants.json"
    tokens.write_text(json.dumps({"sesame": "acme", "mellon": "moria"}))
    server = await start_server(tenants_file=tokens)
    body = {"name": GREET, "prompt": "{{x}}", "labels": ["production"]}
    assert (await server.http.post(LANGFUSE, json=body, headers=basic("sesame"))).status_code == 201
    assert (await server.http.get(f"{LANGFUSE}/{GREET}", headers=basic("sesame"))).status_code == 200
    assert (await server.http.get(f"{LANGFUSE}/{GREET}", headers=basic("mellon"))).status_code == 404
    bearer = {"authorization": "Bearer sesame"}
    assert (await server.http.get(f"/v1/prompts/{GREET}", headers=bearer)).status_code == 200
    for headers in (basic("wrong"), basic(""), {"authorization": "Basic !"}, {"authorization": "Basic"}, {}):
        assert (await server.http.get(f"{LANGFUSE}/{GREET}", headers=headers)).status_code == 401


async def test_a_full_quota_is_a_typed_error_on_every_way_in(start_server: StartServer) -> None:
    server = await start_server(max_prompts_mib=1)
    large = {"prompt": "x" * 700_000}
    await push(server, large)
    more = {"prompt": "y" * 400_000}
    for path, body in (("/v1/prompts", {"name": "b", "program": more}), (LANGFUSE, {"name": "b", **more})):
        answer = await server.http.post(path, json=body)
        assert answer.status_code == 429 and "1048576 (max_prompts_mib = 1)" in answer.text
        assert "quota_exceeded" in answer.text or "QUOTA_EXCEEDED" in answer.text
    await push(server, large)
    async with AsyncClient(f"127.0.0.1:{server.grpc_port}", timeout=20) as client:
        with pytest.raises(ResourceExhausted, match="max_prompts_mib"):
            await client.push_prompt("b", more)
        await client.delete_prompt(GREET, force=True)
        await client.push_prompt("b", more)
