"""Absurd programs: a typed error or a version, whichever it is, and the server goes on answering others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.server.api.conftest import Server

SHOT = {"inputs": {"text": "a text"}, "output": "an answer"}
ABSURD: dict[str, tuple[Any, str]] = {
    "10,000 demonstrations": ({"prompt": "{{text}}", "demonstrations": [SHOT] * 10_000}, "the limit is 2000"),
    "a megabyte of template": ({"prompt": "{{x}}" * (1 << 18)}, "the limit is 1048576"),
    "a catastrophic expression": ({"prompt": "x", "output": {"type": "regex", "regex": "(a{90}){90}"}}, "multiply"),
    "duplicate choices": ({"prompt": "x", "output": {"type": "choices", "choices": ["a"] * 200}}, "again"),
    "many choices": ({"prompt": "x", "output": {"type": "choices", "choices": [str(n) for n in range(300)]}}, "256"),
    "a deep schema": (
        {"prompt": "x", "output": {"type": "json_schema", "json_schema": json.loads('{"not":' * 60 + "{}" + "}" * 60)}},
        "nested deeper than 32",
    ),
    "many unknown fields": ({f"field{n}": n for n in range(10_000)}, "and more of the kind"),
    "deep config": ({"prompt": "x", "config": json.loads('{"a":' * 900 + "1" + "}" * 900)}, ""),
}


@pytest.mark.parametrize("case", ABSURD)
async def test_absurd_programs_are_refused_and_nothing_else_notices(server: Server, case: str) -> None:
    program, words = ABSURD[case]
    pushing = asyncio.ensure_future(server.http.post("/v1/prompts", json={"name": "absurd", "program": program}))
    while not pushing.done():
        assert (await server.http.get("/livez")).status_code == 200
    answer = await pushing
    if answer.status_code == 201:
        assert not words and answer.json()["program"] == program
    else:
        error = answer.json()["error"]
        assert answer.status_code == 400 and words in error["message"], error
        assert len(error["message"]) < 20_000


async def test_the_largest_program_that_is_taken_comes_back_whole(server: Server) -> None:
    shots = [{"inputs": {"text": f"{n} " + "a" * 400}, "output": "b"} for n in range(2000)]
    program = {"prompt": "{{demonstrations}}{{text}}", "demonstrations": shots}
    made = await server.http.post("/v1/prompts", json={"name": "large", "program": program, "labels": ["production"]})
    assert made.status_code == 201, made.text[:1000]
    assert (await server.http.get("/v1/prompts/large")).json()["program"] == program
