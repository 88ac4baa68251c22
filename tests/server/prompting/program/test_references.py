"""How a program and its version are named."""

from __future__ import annotations

import pytest

from graft.adapters.errors import InvalidReference
from graft.server.errors import BadInput
from graft.server.prompting.program.names import check_label, check_prompt_name
from graft.server.prompting.program.references import (
    PromptReference,
    is_prompt_reference,
    read_openai_prompt,
    read_reference,
)

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "folder/sub/name", "x" * 128, "3", "team/3"])
def test_names(name: str) -> None:
    assert check_prompt_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "..",
        "a/../b",
        "a/./b",
        "a b",
        "ü",
        "a:b",
        "x" * 129,
        "a\n",
        "a/labels/b",
        "a/versions",
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidReference):
        check_prompt_name(name)


@pytest.mark.parametrize("label", ["latest", "3", "12345678", "deadbeef", "Production", "a/b", "", "a..b", DIGEST])
def test_what_cannot_be_a_label(label: str) -> None:
    with pytest.raises(InvalidReference):
        check_label(label)


@pytest.mark.parametrize(
    ("text", "name", "selector"),
    [
        ("greet", "greet", None),
        ("prompt:greet", "greet", None),
        ("prompt:team/greet:canary", "team/greet", "canary"),
        ("team/greet:latest", "team/greet", "latest"),
        ("greet@3", "greet", "3"),
        ("prompt:greet@0a0a0a0a", "greet", "0a0a0a0a"),
        (f"prompt:greet@{DIGEST}", "greet", DIGEST),
        ("prompts:/team/greet@production", "team/greet", "production"),
        ("prompts:/team/greet/3", "team/greet", "3"),
        ("prompts:/team/3/1", "team/3", "1"),
    ],
)
def test_references(text: str, name: str, selector: str | None) -> None:
    found = read_reference(text)
    assert found == PromptReference(name=name, selector=selector)
    assert read_reference(str(found)) == found
    assert is_prompt_reference(text) == text.startswith("prompt")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("greet@canary", "a label is written greet:canary"),
        ("greet:3", "a version is written greet@3"),
        ("greet:", "''"),
        ("greet@", "neither a number nor a digest"),
        ("prompts:/greet", "ends in @<label> or /<number>"),
        ("prompts:/greet@3", "a version is written prompts:/greet/3"),
        ("prompts:/3", "ends in"),
        ("prompt:", "not a name"),
        ("../etc/passwd", "not a name"),
    ],
)
def test_what_is_no_reference(text: str, words: str) -> None:
    with pytest.raises(InvalidReference, match=words.replace("(", r"\(")):
        read_reference(text)


def test_openai_names_it_by_id_and_a_version_that_is_text() -> None:
    part = {"type": "input_text", "text": "Jane"}
    reference, variables = read_openai_prompt({"id": "team/greet", "version": "2", "variables": {"a": "b", "c": part}})
    assert reference == PromptReference(name="team/greet", selector="2") and variables == {"a": "b", "c": "Jane"}
    assert read_openai_prompt({"id": "x", "version": None, "variables": None}) == (PromptReference(name="x"), {})


def test_everything_that_is_wrong_with_openais_object_is_said_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        read_openai_prompt({"id": 3, "version": 2, "variables": [], "name": "x"})
    fields = {one.field for one in caught.value.violations}
    assert fields == {"prompt.id", "prompt.version", "prompt.variables", "prompt.name"}
    with pytest.raises(BadInput, match="only texts"):
        read_openai_prompt({"id": "x", "variables": {"a": {"type": "input_image"}}})
