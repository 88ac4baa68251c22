"""Adapters that bring a chat template of their own: chats with them are rendered by it, and with nobody else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from graft.client import AsyncClient
from graft.client.upload import upload_requests
from graft.v1 import adapter_pb2
from graft.v1 import inference_pb2 as pb
from tests.adapters.making import make_adapter
from tests.server.api.conftest import Server
from tests.server.api.grpc.test_grpc import details_of

OWN = "<{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{% if mood %}{{ mood }}{% endif %}>"
LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def folder_with(server: Server, name: str, template: str, *, seed: int = 1) -> Path:
    folder = make_adapter(server.folder / name, seed=seed, base=server.base)
    (folder / "chat_template.jinja").write_text(template)
    return folder


async def pushed(server: Server, folder: Path, adapter: str) -> adapter_pb2.UploadVersionResponse:
    requests = list(upload_requests(folder, name=adapter, allow_noop=False, allow_other_quantization=False))
    done: adapter_pb2.UploadVersionResponse = await server.adapters.UploadVersion(iter(requests))
    await server.point(adapter, "stable", str(done.version.number))
    return done


def chat(model: str, content: str = "hi") -> pb.GenerateRequest:
    turns = pb.Chat(messages=[pb.Message(role="user", content=content)])
    return pb.GenerateRequest(model=model, prompt=pb.Prompt(chat=turns), sampling=pb.Sampling(max_tokens=1))


async def num_prompt_tokens(server: Server, model: str, content: str = "hi") -> int:
    """The scripted tokenizer makes a token of each character."""
    messages = [one async for one in server.inference.Generate(chat(model, content))]
    return int(messages[-1].usage.prompt_tokens)


async def http_prompt_tokens(server: Server, model: str, **more: Any) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, **more}
    response = await server.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return int(response.json()["usage"]["prompt_tokens"])


async def test_chats_are_rendered_by_the_adapters_own_template_on_both_fronts(server: Server) -> None:
    done = await pushed(server, folder_with(server, "own", OWN), "own")
    assert "chat_template.jinja" in {file.name for file in done.version.files}
    assert done.notices == ["chats with it are rendered by the chat template that came with it, not by the base's"]
    assert await num_prompt_tokens(server, "own") == len("<user:hi;>")
    assert await http_prompt_tokens(server, "own") == len("<user:hi;>")
    assert await num_prompt_tokens(server, "") == await http_prompt_tokens(server, server.base.name) == len("hi")


async def test_responses_are_rendered_by_it_too(server: Server) -> None:
    await pushed(server, folder_with(server, "own", "{{ raise_exception('asked by its own template') }}"), "own")
    response = await server.http.post("/v1/responses", json={"model": "own", "input": "hi"})
    assert response.status_code == 400 and "asked by its own template" in response.json()["error"]["message"]


async def test_tools_are_shown_by_it_where_it_reads_them(server: Server) -> None:
    tool = {"type": "function", "function": {"name": "sum", "parameters": {"type": "object", "properties": {}}}}
    reads = "{% if tools %}{{ tools | length }}{% endif %}{{ messages | length }}{{ messages[-1].content }}"
    await pushed(server, folder_with(server, "reads", reads), "reads")
    await pushed(server, folder_with(server, "blind", "{{ messages | length }}{{ messages[-1].content }}"), "blind")
    assert await http_prompt_tokens(server, "reads", tools=[tool]) == len("11hi")
    assert await http_prompt_tokens(server, "blind", tools=[tool]) == len("2hi"), "a system turn tells of them"


async def test_values_are_text_and_variables_those_of_the_template_that_is_used(server: Server) -> None:
    await pushed(server, folder_with(server, "own", OWN), "own")
    assert await num_prompt_tokens(server, "own", "{{ 7 * 7 }}") == len("<user:{{ 7 * 7 }};>")
    assert await http_prompt_tokens(server, "own", chat_template_kwargs={"mood": "!"}) == len("<user:hi;!>")
    body = {
        "model": "own",
        "messages": [{"role": "user", "content": "x"}],
        "chat_template_kwargs": {"enable_thinking": 1},
    }
    response = await server.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400 and "it reads mood" in response.json()["error"]["message"]


async def test_a_template_in_the_tokenizers_configuration_counts_as_one_of_its_own(server: Server) -> None:
    folder = make_adapter(server.folder / "config", base=server.base)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": OWN}))
    done = await pushed(server, folder, "config")
    assert await num_prompt_tokens(server, "config") == len("<user:hi;>")
    imported = await server.adapters.ImportVersion(adapter_pb2.ImportVersionRequest(adapter="config", path=str(folder)))
    assert imported.version.digest == done.version.digest, "by either way it is the same version"


async def test_several_templates_by_name_are_told_not_to_be_served(server: Server) -> None:
    folder = make_adapter(server.folder / "several", base=server.base)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": [{"name": "a", "template": OWN}]}))
    done = await pushed(server, folder, "several")
    assert "chat_template.jinja" not in {file.name for file in done.version.files}
    assert "several by name" in done.notices[0]
    assert await num_prompt_tokens(server, "several") == len("hi")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% broken", "line 1"),
        ("{{ x|nosuch }}", "nosuch"),
        ("{% if 1 %}" * 30_000, "nested"),
        ("x" * 2_000_000, "bytes"),
    ],
)
async def test_one_that_cannot_be_used_is_refused_with_its_reason(server: Server, template: str, words: str) -> None:
    requests = upload_requests(
        folder_with(server, "bad", template), name="bad", allow_noop=False, allow_other_quantization=False
    )
    code, details = await details_of(server.adapters.UploadVersion(iter(list(requests))))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    told = [str(violation) for detail in details.values() for violation in getattr(detail, "field_violations", ())]
    assert any("chat_template.jinja" in one and words in one for one in told), told


async def test_one_that_loops_takes_nobody_along(server: Server) -> None:
    await pushed(server, folder_with(server, "loops", LOOPS), "loops")
    await pushed(server, folder_with(server, "own", OWN, seed=2), "own")
    looping = [asyncio.ensure_future(details_of(server.inference.Generate(chat("loops")))) for _ in range(2)]
    others = [num_prompt_tokens(server, "own") for _ in range(8)]
    assert await asyncio.gather(*others) == [len("<user:hi;>")] * 8
    for code, _ in await asyncio.gather(*looping):
        assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_template_that_refuses_says_why(server: Server) -> None:
    await pushed(server, folder_with(server, "strict", "{{ raise_exception('no such chat') }}"), "strict")
    body = {"model": "strict", "messages": [{"role": "user", "content": "x"}]}
    error = (await server.http.post("/v1/chat/completions", json=body)).json()["error"]
    assert error["param"] == "messages" and "refuses this chat: no such chat" in error["message"]


async def test_each_version_keeps_its_template_while_the_alias_moves(server: Server) -> None:
    await pushed(server, folder_with(server, "one", "1{{ messages[0].content }}"), "moving")
    assert await num_prompt_tokens(server, "moving") == 3
    await pushed(server, folder_with(server, "two", "two{{ messages[0].content }}"), "moving")
    assert await num_prompt_tokens(server, "moving") == 5
    assert await num_prompt_tokens(server, "moving@1") == 3


async def test_the_bases_own_template_beside_an_adapter_changes_nothing(server: Server) -> None:
    """Most trainers save the base's tokenizer and template beside the adapter."""
    template = json.loads((server.base.path / "tokenizer_config.json").read_text())["chat_template"]
    plain = make_adapter(server.folder / "plain", base=server.base)
    digest = (await pushed(server, plain, "plain")).version.digest
    (plain / "chat_template.jinja").write_text(template)
    done = await pushed(server, plain, "plain")
    assert done.version.digest == digest and not done.notices


async def test_programs_that_ask_the_adapter_are_rendered_by_it(server: Server) -> None:
    await pushed(server, folder_with(server, "own", OWN), "own")
    program = {"type": "chat", "prompt": [{"role": "user", "content": "{{q}}"}], "decoding": {"max_tokens": 1}}
    async with AsyncClient(f"127.0.0.1:{server.grpc_port}", timeout=20) as client:
        for model, expected in (("own", "<user:hi;>"), (server.base.name, "hi")):
            bound = json.dumps({**program, "model": model})
            shown = await client.preview_prompt("", {"q": "hi"}, program=bound)
            ran = await client.run_prompt("", {"q": "hi"}, program=bound)
            assert shown.num_tokens == ran.usage.prompt_tokens == len(expected)
