"""Programs over gRPC, by the client and by the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from graft.cli.main import main
from graft.client import AsyncClient, Conflict, InvalidArgument, NotFound
from tests.server.api.conftest import Server, StartServer

GREET = "team/greet"
FIRST = {"prompt": "Say hello\nto {{name}}.", "config": {"owner": "jo"}}
SECOND = {"prompt": "Say hello\nand good bye to {{name}}.", "config": {"owner": "jo"}}


@pytest_asyncio.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.grpc_port}", timeout=20) as client:
        yield client


async def test_a_program_comes_back_as_it_was_sent(client: AsyncClient) -> None:
    made = await client.push_prompt(GREET, FIRST, labels=["production"], tags=["a"], commit_message="first")
    assert (made.name, made.number, list(made.labels)) == (f"prompts/{GREET}/versions/1", 1, ["production", "latest"])
    got = await client.get_prompt(GREET)
    assert got == made and json.loads(got.program) == FIRST
    assert (list(got.tags), got.commit_message) == (["a"], "first")
    for selector in ("1", "production", "latest", made.digest, made.digest.removeprefix("sha256:")[:8]):
        assert await client.get_prompt(GREET, selector) == made


async def test_lists_hold_everything_by_pages(client: AsyncClient) -> None:
    for number in range(120):
        await client.push_prompt(f"many/{number:03}", {"prompt": f"{number}"}, tags=["even"] if number % 2 == 0 else [])
    await client.push_prompt(GREET, FIRST)
    await client.push_prompt(GREET, SECOND, labels=["canary"])
    assert [one.prompt for one in await client.prompts(prefix="many/")] == [f"many/{one:03}" for one in range(120)]
    assert len(await client.prompts(tag="even")) == 60
    (found,) = await client.prompts(label="canary")
    assert (found.prompt, found.num_versions, found.labels[0].version_number) == (GREET, 2, 2)
    versions = await client.prompt_versions(GREET)
    assert [(one.number, list(one.labels), one.program) for one in versions] == [
        (1, [], ""),
        (2, ["canary", "latest"], ""),
    ]


async def test_labels_move_by_compare_and_set(client: AsyncClient) -> None:
    for program in (FIRST, SECOND):
        await client.push_prompt(GREET, program)
    with pytest.raises(NotFound, match="no label 'production', which a bare name means"):
        await client.get_prompt(GREET)
    label = await client.set_prompt_label(GREET, "production", 1, etag="")
    moved = await client.set_prompt_label(GREET, "production", "latest", etag=label.etag)
    assert moved.version_number == 2
    with pytest.raises(Conflict, match=moved.etag):
        await client.set_prompt_label(GREET, "production", 1, etag=label.etag)
    assert (await client.get_prompt(GREET)).number == 2


async def test_what_is_deleted_is_gone(client: AsyncClient) -> None:
    await client.push_prompt(GREET, FIRST, labels=["production"])
    with pytest.raises(Conflict, match="points at it"):
        await client.delete_prompt_version(GREET, 1)
    with pytest.raises(Conflict, match="1 version"):
        await client.delete_prompt(GREET)
    await client.delete_prompt_label(GREET, "production")
    await client.delete_prompt_version(GREET, 1)
    with pytest.raises(NotFound, match="no prompt has this name"):
        await client.get_prompt(GREET)
    assert (await client.push_prompt(GREET, FIRST)).number == 2
    await client.delete_prompt(GREET, force=True)
    assert await client.prompts() == []


async def test_a_refusal_names_every_field(client: AsyncClient) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await client.push_prompt("a b", {"promt": "x"}, labels=["latest"], tags=[""])
    fields = {one.field for one in caught.value.violations}
    assert fields == {"prompt", "labels[0]", "tags[0]", "program.promt", "program.prompt"}
    for name, version in (("", ""), ("../x", ""), ("x", "Not a label"), ("x\0", "1")):
        with pytest.raises(InvalidArgument):
            await client.get_prompt(name, version)
        with pytest.raises(InvalidArgument):
            await client.delete_prompt_label(name, version)
        with pytest.raises(InvalidArgument):
            await client.delete_prompt_version(name, version)
    with pytest.raises(InvalidArgument, match="NUL"):
        await client.push_prompt("x", FIRST, commit_message="\0")


async def test_programs_are_there_after_a_restart(start_server: StartServer, client: AsyncClient) -> None:
    made = await client.push_prompt(GREET, FIRST, labels=["production"])
    other = await start_server()  # on the same data
    async with AsyncClient(f"127.0.0.1:{other.grpc_port}", timeout=20) as again:
        assert await again.get_prompt(GREET) == made


async def test_a_version_that_is_there_already_says_so(client: AsyncClient) -> None:
    await client.push_prompt(GREET, FIRST, tags=["a"])
    again = await client.push_prompt(GREET, FIRST, tags=["b"])
    assert again.number == 1 and list(again.tags) == ["a"]
    assert list(again.notices) == ["this content is version 1 already; its tags and message stay what they are"]


Graft = Callable[..., Any]


@pytest.fixture
def graft(server: Server, capsys: pytest.CaptureFixture[str]) -> Graft:
    async def run(*argv: str, code: int = 0) -> str:
        words = ["prompts", *argv, "--server", f"127.0.0.1:{server.grpc_port}"]
        assert await asyncio.to_thread(main, words) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    return run


async def test_the_commands(graft: Graft, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text(json.dumps(FIRST))
    second.write_text(json.dumps(SECOND, indent=4))
    pushed = await graft("push", str(first), "--name", GREET, "--label", "production", "--message", "the first")
    assert pushed.startswith(f"{GREET}@1 sha256:") and f"{GREET}:production now means it" in pushed
    await graft("push", str(second), "--name", GREET, "--tag", "x")
    assert f"{GREET}  2         production=1  x" in await graft("list")
    assert "the first" in await graft("show", GREET)
    assert json.loads(await graft("show", f"{GREET}@2", "--program")) == SECOND
    assert "labels: production" in await graft("show", f"{GREET}:production")
    assert f"{GREET}:production is version 2" in await graft("label", GREET, "production", "2")
    compared = await graft("diff", f"{GREET}@1", "@2")
    assert compared.splitlines() == [
        f"--- {GREET}@1", f"+++ {GREET}@2", "@@ -1,6 +1,6 @@", " {", '   "prompt": "Say hello\\n',
        '-      to {{name}}.",', '+      and good bye to {{name}}.",', '   "config": {', '     "owner": "jo"', "   }",
    ]  # fmt: skip
    assert "hold the same program" in await graft("diff", f"{GREET}@1", f"{GREET}@1")
    assert "say --yes" in await graft("delete", GREET, code=2)
    assert "deleted" in await graft("delete", GREET, "--version", "1")
    assert "with its version" in await graft("delete", GREET, "--yes")
    assert await graft("list") == "no prompts\n"


async def test_the_commands_say_what_is_wrong_in_one_line(graft: Graft, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text('{"promt": 1}')
    said = await graft("push", str(file), "--name", "x", code=2)
    assert "did you mean `prompt`?" in said and len(said.splitlines()) == 1
    file.write_bytes(b"\xff")
    assert "is not UTF-8" in await graft("push", str(file), "--name", "x", code=2)
    assert "No such file" in await graft("push", str(tmp_path / "none.json"), "--name", "x", code=2)
    assert "no prompt has this name" in await graft("show", "x", code=2)
