"""Previews: what the model would read, with token counts; and programs that loop, escape, explode or do not fit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from graft.cli.main import main
from graft.client import AsyncClient, InvalidArgument
from tests.server.api.conftest import Server

REVIEWS = {
    "prompt": "Is it good?\n\n{{demonstrations}}\nReview: {{review}}\nAnswer:",
    "demonstrations": [
        {"inputs": {"review": "Lovely."}, "output": "yes"},
        {"inputs": {"review": "Dull."}, "output": "no"},
    ],
    "decoding": {"max_tokens": 10},
}
JINJA = {**REVIEWS, "template_format": "jinja2"}
CONTEXT = 1000
"""Of the scripted engine, whose tokenizer makes a token of each character."""


@pytest_asyncio.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.grpc_port}", timeout=20) as client:
        yield client


@pytest.mark.parametrize("program", [REVIEWS, JINJA])
async def test_the_parts_make_the_prompt_and_their_tokens_its_size(client: AsyncClient, program: Any) -> None:
    await client.push_prompt("films/good", program, labels=["production"])
    shown = await client.preview_prompt("films/good", {"review": "Fine."})
    parts = [(one.kind, one.text) for one in shown.parts]
    assert parts == [
        ("text", "Is it good?\n\n"),
        ("text", "Review: Lovely.\nAnswer: yes\n"),
        ("text", "Review: Dull.\nAnswer: no\n"),
        ("text", "Review: Fine.\nAnswer:"),
    ]
    assert [one.num_tokens for one in shown.parts] == [len(text) for _, text in parts]
    assert shown.num_tokens == sum(len(text) for _, text in parts) and shown.max_model_tokens == CONTEXT
    assert (list(shown.shown_demonstrations), list(shown.variables), list(shown.notices)) == ([0, 1], ["review"], [])


async def test_what_does_not_fit_is_left_out_and_named(client: AsyncClient) -> None:
    many = [{"inputs": {"review": "x" * 60 + str(index)}, "output": "yes"} for index in range(2000)]
    program = json.dumps({**REVIEWS, "demonstrations": many})
    shown = await client.preview_prompt("", {"review": "Fine."}, program=program)
    assert shown.num_tokens <= CONTEXT - 10
    assert list(shown.shown_demonstrations) == list(range(len(shown.shown_demonstrations)))
    assert len(shown.shown_demonstrations) + len(shown.dropped_demonstrations) == 2000
    assert shown.num_tokens + len("Review: \nAnswer: yes\n") + 64 > CONTEXT - 10, "no more would have fitted"
    assert any("left out" in notice for notice in shown.notices)


@pytest.mark.parametrize(
    ("changes", "variables", "field", "words"),
    [
        ({}, {"review": "x" * 990}, "variables", "at most 990"),
        ({}, {}, "variables.review", "is missing"),
        ({}, {"review": "x", "nosuch": 1}, "variables.nosuch", "it reads review"),
        ({}, {"review": ["x"]}, "variables.review", "jinja2"),
        ({"prompt": "{{review"}, {}, "program.prompt", "not closed"),
        ({"prompt": "{{review}}" * 9_000, "demonstrations": []}, {"review": "x" * 1000}, "program.prompt", "limit"),
        ({"prompt": "{{review}}" * 90_000, "demonstrations": []}, {"review": ""}, "program.prompt", "10000 variables"),
        ({"demonstrations": [REVIEWS["demonstrations"][0]] * 10_000}, {}, "program.demonstrations", "10000 entries"),  # type: ignore[index]
        (
            {"template_format": "jinja2", "prompt": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
             "{% endfor %}", "demonstrations": []},
            {}, "program.prompt", "200 ms",
        ),
        (
            {"template_format": "jinja2", "prompt": "{{ ''.__class__.__mro__ }}", "demonstrations": []},
            {}, "program.prompt", "none of what templates may use",
        ),
        (
            {"template_format": "jinja2", "prompt": "{{ 'x' * 10**9 }}", "demonstrations": []},
            {}, "program.prompt", "repeats to",
        ),
        ({"template_format": "jinja2", "prompt": "{% if 1 %}" * 90_000}, {}, "program.prompt", "nested"),
    ],
)  # fmt: skip
async def test_what_cannot_be_written_is_refused_and_neighbours_are_served(
    client: AsyncClient, changes: dict[str, Any], variables: dict[str, Any], field: str, words: str
) -> None:
    refused = asyncio.ensure_future(client.preview_prompt("", variables, program=json.dumps({**REVIEWS, **changes})))
    neighbours = [client.preview_prompt("", {"review": str(one)}, program=json.dumps(JINJA)) for one in range(3)]
    shown = await asyncio.gather(*neighbours)
    assert [one.parts[-1].text for one in shown] == [f"Review: {one}\nAnswer:" for one in range(3)]
    with pytest.raises(InvalidArgument) as caught:
        await refused
    assert field in str(caught.value) and words in str(caught.value)


async def test_the_command_prints_parts_and_facts(
    client: AsyncClient, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.push_prompt("films/good", REVIEWS, labels=["production"])
    file = server.folder / "program.json"
    file.write_text(json.dumps({**REVIEWS, "prompt": "{{demonstrations}}{{review}} {oops}", "demonstrations": []}))

    async def said(*argv: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, ["prompts", "preview", *argv, "--server", f"127.0.0.1:{server.grpc_port}"])
        out = capsys.readouterr()
        return code, out.out + out.err

    code, text = await said("films/good", "--var", "review=Fine.")
    assert code == 0
    for line in ("── text · 28 tokens", "Review: Lovely.", f"of {CONTEXT} tokens", "shown: 0 1", "variables: review"):
        assert line in text, text
    code, text = await said("--file", str(file), "--variables", '{"review": "x"}')
    assert code == 0 and "note: program.prompt: `{oops}` is text" in text
    for argv in (
        ["films/good", "--file", str(file)],
        [],
        ["films/good", "--var", "review"],
        ["films/good", "--variables", "["],
    ):
        code, text = await said(*argv)
        assert code == 2 and "Traceback" not in text and len(text.splitlines()) == 1, text
    assert (await said("films/good"))[0] == 2


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    from argparse import Namespace

    from graft.cli.prompt_arguments import documents_of, variables_of

    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "v.json").write_text('{"a": [1]}')
    args = Namespace(document=[str(tmp_path / "a.txt")], variables=f"@{tmp_path / 'v.json'}", var=["b=c=d"])
    assert documents_of(args) == [{"id": "a.txt", "text": "text"}]
    assert variables_of(args) == {"a": [1], "b": "c=d"}
