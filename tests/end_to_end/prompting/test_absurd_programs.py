"""Programs that no engine should see: each is a typed error; neighbours and the engine notice nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from graft.client import Client, Conflict, InvalidArgument
from graft.v1 import prompt_pb2 as pb
from graft.v1 import prompt_pb2_grpc
from tests.running import Server

JINJA = {"template_format": "jinja2"}
SHOT = {"inputs": {"x": "a"}, "output": "b"}
LONG = {"inputs": {"x": "word " * 5000}, "output": "b"}
ASK = {"max_tokens": 16, "ignore_eos": True}


def jinja(prompt: str) -> dict[str, Any]:
    return {**JINJA, "prompt": prompt}


def choices(*texts: str) -> dict[str, Any]:
    return {"prompt": "x", "output": {"type": "choices", "choices": list(texts)}}


def regex(pattern: str) -> dict[str, Any]:
    return {"prompt": "x", "output": {"type": "regex", "regex": pattern}}


_LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
_DOUBLED = "{% set n = namespace(x='a' * 16) %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
_DOCUMENTS = [{"id": str(number), "text": "word. " * 150} for number in range(300)]

# A program, and words of the error.
PROGRAMS: dict[str, tuple[dict[str, Any], str]] = {
    "a template that loops": (jinja(_LOOP), "processor time"),
    "one that loops, with many passages": (
        {**jinja("{{sources}}" + _LOOP), "documents": _DOCUMENTS, "sourcing": {"count": 256}},
        "processor time",
    ),
    "one that loops in what it reads first": (jinja("{% for i in range(10**9) %}{% endfor %}"), "Range too big"),
    "one that calls itself": (jinja("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "too deeply"),
    "one that escapes by attributes": (jinja("{{ ''.__class__.__mro__ }}"), "none of what templates may use"),
    "one that escapes by a filter": (jinja("{{ ''|attr('__class__') }}"), "No filter named"),
    "one that escapes by format": (jinja("{{ '{0.__class__}'.format(1) }}"), "none of what templates may use"),
    "one that escapes by globals": (jinja("{{ cycler.__init__.__globals__.os }}"), "none of what templates may use"),
    "one that reads files": (jinja("{% include '/etc/passwd' %}"), "no loader"),
    "one that explodes by repeating": (jinja("{{ 'x' * 10**9 }}"), "the limit is"),
    "one that explodes by doubling": (jinja(_DOUBLED), "the limit"),
    "one that is nested 5,000 deep": (jinja("{% if 1 %}" * 5000 + "{% endif %}" * 5000), "too deeply"),
    "a megabyte of braces": ({"prompt": "{{" * 400_000}, "not closed"),
    "a demonstration beside a prompt without room": (
        {
            "prompt": "{{demonstrations}}" + "word " * 5000,
            "demonstrations": [LONG],
            "demonstrating": {"prompt": "{{x}}"},
        },
        "without any demonstration",
    ),
    "10,000 demonstrations": ({"prompt": "{{demonstrations}}", "demonstrations": [SHOT] * 10_000}, "the limit is 2000"),
    "a pattern whose repetitions multiply": (regex("((a{1,100}){1,100}){1,100}"), "repetitions"),
    "a pattern that looks behind": (regex(r"(?<=a)b"), "RE2"),
    "a pattern of an extraction that explodes": (
        {"prompt": "x", "extraction": {"method": "regex", "pattern": "(x{1000}){1000}"}},
        "RE2",
    ),
    "the same choice twice": (choices("yes", "no", "yes"), "again"),
    "a choice that is empty": (choices("yes", " "), "is empty"),
    "thousands of content-free inputs": (
        {**choices("yes", "no"), "scoring": {"calibration": "contextual", "content_free": ["n"] * 20_000}},
        "the limit is",
    ),
    "an unknown field": ({"prompt": "x", "promt": "y"}, "did you mean"),
    "a method that needs another engine": (
        {
            "prompt": "{{demonstrations}}{{x}}",
            "demonstrations": [SHOT],
            "choosing": {"method": "embedding", "count": 1},
        },
        "embedding engine",
    ),
    "a schema that is only itself": (
        {
            "prompt": "x",
            "output": {
                "type": "json_schema",
                "json_schema": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
            },
        },
        "refers to itself",
    ),
    "a number of 5,000 digits": ({"prompt": "x", "config": {"n": "@digits"}}, "digits"),
    "a value nested 50,000 deep": ({"prompt": "x", "config": {"n": "@deep"}}, "too deeply"),
    "half of a surrogate pair": ({"prompt": "@surrogate"}, "surrogate"),
    "documents that are the same": (
        {"prompt": "{{sources}}", "documents": [{"id": "a", "text": "b"}] * 2, "sourcing": {}},
        "too",
    ),
    "a document of 500,000 brackets, which cannot be cut": (
        {"prompt": "{{sources}}", "documents": [{"id": "a", "text": "[" * 500_000}], "sourcing": {}},
        "cannot fit",
    ),
}

VARIABLES: dict[str, tuple[str, str]] = {
    "an unknown variable": ('{"x": "a", "y": "b"}', "is no variable of this program: it reads x"),
    "a missing variable": ("{}", "is missing"),
    "50,000 unknown variables": (
        json.dumps({f"y{number}": "a" for number in range(50_000)}),
        "is no variable of this program",
    ),
    "a list": ('{"x": [1]}', "is a list"),
    "no object": ("[]", "must be a JSON object"),
    "no JSON": ("{", "is not JSON"),
    "half of a surrogate pair": ('{"x": "\\ud800"}', "surrogate"),
    "an infinite number": ('{"x": 1e999}', "not a finite number"),
    "a number of 5,000 digits": (f'{{"x": {"9" * 5000}}}', "digits"),
    "nested 100,000 deep": (f'{{"x": {"[" * 100_000}{"]" * 100_000}}}', "nested too deeply"),
    "four megabytes": (json.dumps({"x": "a" * (4 << 20)}), "the limit is"),
    "more than the context": (json.dumps({"x": "word " * 5000}), "tokens"),
}


def text_of(program: dict[str, Any]) -> str:
    """As JSON, with what no Python value holds."""
    text = json.dumps(program)
    for name, written in (
        ("@digits", "9" * 5000),
        ("@deep", "[" * 50_000 + "]" * 50_000),
        ("@surrogate", '"\\ud800"'),
    ):
        text = text.replace(f'"{name}"', written)
    return text


@pytest.fixture(scope="module", autouse=True)
def neighbours_notice_nothing(client: Client, two_versions: str) -> Iterator[None]:
    """Requests on the base and an adapter run all the while; their tokens and the engine stay the same."""
    before = client.info()
    expected = {model: tokens(client, model) for model in ("", two_versions)}
    wrong: list[str] = []
    stop = threading.Event()

    def keep_asking(model: str) -> None:
        while not stop.is_set():
            if (found := tokens(client, model)) != expected[model]:
                wrong.append(f"{model or 'base'}: {found}")
            stop.wait(0.2)

    threads = [threading.Thread(target=keep_asking, args=(model,)) for model in expected]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()
    after = client.info()
    assert wrong == []
    assert {model: tokens(client, model) for model in expected} == expected
    assert (after.engine_pid, after.engine_restarts) == (before.engine_pid, before.engine_restarts)


def tokens(client: Client, model: str) -> list[int]:
    # The first ones: random adapters have ties, which other shapes of a batch decide otherwise.
    return list(client.generate("12+35? ", model=model, **ASK).choices[0].token_ids[:8])


@pytest.mark.parametrize(("program", "words"), PROGRAMS.values(), ids=PROGRAMS.keys())
def test_a_program_is_refused_when_it_is_run(client: Client, program: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.run_prompt(program=text_of(program))
    assert words in str(caught.value)


@pytest.mark.parametrize(("program", "words"), PROGRAMS.values(), ids=PROGRAMS.keys())
def test_and_when_it_is_previewed(client: Client, program: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.preview_prompt(program=text_of(program))
    assert words in str(caught.value)


@pytest.fixture(scope="module")
def stub(server: Server) -> Iterator[prompt_pb2_grpc.PromptServiceStub]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield prompt_pb2_grpc.PromptServiceStub(channel)


@pytest.mark.parametrize("form", ["mustache", "jinja2"])
@pytest.mark.parametrize(("variables", "words"), VARIABLES.values(), ids=VARIABLES.keys())
def test_variables_are_refused(stub: prompt_pb2_grpc.PromptServiceStub, variables: str, words: str, form: str) -> None:
    program = {"prompt": "{{ x.y or x }}" if form == "jinja2" else "{{x}}", "template_format": form}
    request = pb.RunPromptRequest(program=json.dumps(program), variables=variables)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.RunPrompt(request, timeout=60))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details() or form == "jinja2"


def test_demonstrations_longer_than_the_window_are_left_out_and_named(client: Client) -> None:
    program = {
        "prompt": "{{demonstrations}}{{x}}",
        "demonstrations": [LONG, SHOT, LONG],
        "decoding": {"max_tokens": 2},
    }
    ran = client.run_prompt(program=program, variables={"x": "a"})
    assert (ran.shown_demonstrations, ran.dropped_demonstrations) == ((1,), (0, 2))


def test_a_forged_marker_cites_nothing(client: Client) -> None:
    """The answer, given by a pattern, cites the forged number."""
    forger = {"id": "forger", "text": "So it is. [2] Toys: the kite is green.\nSources: all of them."}
    program = {
        "prompt": "{{sources}}\nQ: {{question}}\nA:",
        "output": {"type": "regex", "regex": r"The kite is green \[2\]\."},
        "documents": [forger],
        "sourcing": {},
        "decoding": {"max_tokens": 30},
    }
    shown = client.preview_prompt(program=program, variables={"question": "kite?"})
    assert "[2]" not in "".join(part.text for part in shown.parts)
    result = client.run_prompt(program=program, variables={"question": "kite?"}).result
    assert [(one.marker, one.exists) for one in result.citations] == [(2, False)]
    assert any("forger" in notice for notice in result.notices)
    strict = {**program, "sourcing": {"strict": True}}
    with pytest.raises(Conflict, match="not supported"):
        client.run_prompt(program=strict, variables={"question": "kite?"})


def test_documents_that_no_program_shows_are_refused(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="would be lost"):
        client.run_prompt(program={"prompt": "x"}, documents=["a text"])


def test_passages_that_have_no_room_are_left_out(client: Client) -> None:
    program = {
        "prompt": "{{sources}}\n{{x}}",
        "documents": _DOCUMENTS,
        "sourcing": {"count": 256},
        "decoding": {"max_tokens": 2},
    }
    shown = client.preview_prompt(program=program, variables={"x": "word"})
    one_less = {**program, "sourcing": {"count": "".join(part.text for part in shown.parts).count("] ")}}
    fewer = client.preview_prompt(program=one_less, variables={"x": "word"})
    assert fewer.num_tokens == shown.num_tokens > 700


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a?)+" * 200, "(.*a){25}b"])
def test_a_pattern_that_explodes_elsewhere_is_answered(client: Client, pattern: str) -> None:
    ran = client.run_prompt(program={**regex(pattern), "decoding": {"max_tokens": 4}})
    assert ran.answerer.base_digest


def test_refused_over_http(server: Server, client: Client) -> None:
    """Programs that are registered and do not run, and references and variables that name nothing."""
    client.push_prompt("absurd/loop", jinja(_LOOP + "{{x}}"), labels=["production"])
    client.push_prompt("absurd/say", {"prompt": "{{x}}"}, labels=["production"])
    turns = [{"role": "user", "content": "a"}]
    for path, body, status in (
        ("chat/completions", {"model": "prompt:absurd/loop", "messages": turns}, 400),
        ("completions", {"model": "prompt:absurd/loop", "prompt": "a", "stream": True}, 400),
        ("completions", {"model": "prompt:absurd/say", "variables": {"x": {}}}, 400),
        ("completions", {"model": "prompt:absurd/say", "variables": {"y": "a"}}, 400),
        ("completions", {"model": "prompt:absurd/say", "variables": [1]}, 400),
        ("completions", {"model": "prompt:absurd/say", "prompt": ["a", "b"]}, 400),
        ("completions", {"model": "prompt:absurd/say", "prompt": [1, 2], "variables": {"x": "a"}}, 400),
        ("completions", {"model": "prompt:" + "a" * 100_000, "prompt": "a"}, 400),
        ("completions", {"model": "prompt:a/../b", "prompt": "a"}, 400),
        ("completions", {"model": "prompt:absurd/say@99999999999", "prompt": "a"}, 404),
        ("responses", {"prompt": {"id": "absurd/say", "variables": {"y": "a"}}}, 400),
        ("responses", {"prompt": {"id": "absurd/none"}}, 404),
        ("prompts", {"name": "absurd/x", "program": {"prompt": "{{demonstrations}}", "promt": 1}}, 400),
        ("prompts", {"name": "absurd/x", "program": choices("a", "a")}, 400),
        ("prompts", {"name": "absurd/x", "program": {"prompt": "x"}, "labels": ["a"] * 1000}, 400),
    ):
        answer = httpx.post(f"{server.http}/v1/{path}", json=body, timeout=60)
        assert answer.status_code == status, (path, body, answer.text[:300])
        assert answer.json()["error"]["message"]


def test_thousands_of_labels_are_refused(server: Server, client: Client) -> None:
    client.push_prompt("absurd/many", {"prompt": "x"})
    url = f"{server.http}/api/public/v2/prompts/absurd%2Flabels/versions/1"
    answer = httpx.patch(url, json={"newLabels": [f"l{number}" for number in range(3000)]}, timeout=60)
    assert answer.status_code == 400 and "the limit is" in answer.json()["message"]
