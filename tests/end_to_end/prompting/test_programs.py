"""Programs through both doors, on the real engine: called, streamed, refused, relabelled under streams."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from graft.client import AsyncClient, Client, GraftClientError, InvalidArgument, NotFound, PromptChunk, PromptRun
from tests.running import BASE, Server

WORDS = ("cat", "melon", "bird", "stone")
REVERSE = {
    "prompt": "{{demonstrations}}\n{{word}} ->",
    "demonstrations": [{"inputs": {"word": word}, "output": word[::-1]} for word in WORDS],
    "decoding": {"max_tokens": 12, "stop": ["\n"]},
}
SUM = {
    "prompt": "{{demonstrations}}{{question}}?",
    "demonstrations": [{"inputs": {"question": "12+35"}, "rationale": "2+5+0=7;1+3+0=4;", "output": "47"}],
    "demonstrating": {"answer": "{{rationale}} {{output}}"},
    "reasoning": {"method": "chain_of_thought"},
    "extraction": {"method": "after", "marker": ";"},
    "decoding": {"max_tokens": 60, "stop": ["\n"]},
}
SAY = {"type": "chat", "prompt": [{"role": "user", "content": "{{text}}"}], "decoding": {"max_tokens": 8}}


FORMED = {**SAY, "output": {"type": "json_schema", "json_schema": {"enum": [1, 2]}}}


@pytest.fixture(scope="module", autouse=True)
def programs(client: Client) -> None:
    for name, program in (("reverse", REVERSE), ("sum", SUM), ("say", SAY), ("formed", FORMED)):
        client.push_prompt(f"programs/{name}", program, labels=["production"])


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.http}/v1", api_key="unused", max_retries=0) as api:
        yield api


def test_a_program_is_the_request_that_it_writes(client: Client) -> None:
    ran = client.run_prompt("programs/reverse", {"word": "water"})
    shown = "".join(f"{word} -> {word[::-1]}\n" for word in WORDS)
    raw = client.generate(f"{shown}water ->", max_tokens=12, stop="\n")
    assert ran.answer == raw.text.strip() == "retaw" and ran.usage.prompt_tokens == raw.usage.prompt_tokens
    assert ran.program.prompt == "programs/reverse" and ran.program.version_number == 1
    assert ran.answerer == raw.answerer and ran.shown_demonstrations == (0, 1, 2, 3)


def test_every_way_to_name_a_program(client: Client, api: openai.OpenAI) -> None:
    digest = client.get_prompt("programs/reverse").digest.removeprefix("sha256:")
    names = ["", ":production", ":latest", "@1", f"@{digest[:12]}"]
    models = [f"prompt:programs/reverse{name}" for name in names]
    for model in [*models, "prompts:/programs/reverse@production", "prompts:/programs/reverse/1"]:
        assert client.run_prompt(model, {"word": "water"}).answer == "retaw"
        answered = api.completions.with_raw_response.create(model=model, prompt="water")
        assert answered.headers["x-graft-prompt"] == "programs/reverse@1"
        assert answered.parse().choices[0].text.strip() == "retaw" and answered.parse().model == model


def test_reasoning_is_told_apart(client: Client, api: openai.OpenAI) -> None:
    events = list(client.stream_prompt("programs/sum", {"question": "27+42"}))
    ran = events[-1]
    assert isinstance(ran, PromptRun) and (ran.answer, ran.rationale) == ("69", "7+2+0=9;2+4+0=6")
    chunks = [event for event in events if isinstance(event, PromptChunk)]
    assert "".join(one.answer for one in chunks) == ran.answer
    assert "".join(one.rationale for one in chunks) == ran.rationale
    assert ran.result.reasoning_tokens > ran.result.answer_tokens > 0
    withheld = client.run_prompt("programs/sum", {"question": "27+42"}, withhold_rationale=True)
    assert (withheld.answer, withheld.rationale) == ("69", "")

    asked: dict[str, Any] = {
        "model": "prompt:programs/sum",
        "messages": [{"role": "user", "content": "27+42"}],
    }
    message = api.chat.completions.create(**asked).choices[0].message
    assert message.content == "69"
    assert message.reasoning == message.reasoning_content == ran.rationale  # type: ignore[attr-defined]
    frames = list(api.chat.completions.create(**asked, stream=True))
    assert "".join(frame.choices[0].delta.content or "" for frame in frames) == "69"
    assert frames[-1].choices[0].finish_reason == "stop"


def test_ordinary_answers_tell_what_was_shown(api: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "prompt:programs/reverse", "prompt": "water"}
    told = {"shown_demonstrations": [0, 1, 2, 3]}
    assert (api.completions.create(**asked).model_extra or {})["graft"] == told
    *frames, last = api.completions.create(**asked, stream=True)
    assert (last.model_extra or {})["graft"] == told and last.choices[0].finish_reason
    assert not any("graft" in (frame.model_extra or {}) for frame in frames)


def test_openai_prompt_object(client: Client, api: openai.OpenAI) -> None:
    prompt = {"id": "programs/say", "version": "1", "variables": {"text": "12+35?"}}
    plain = api.chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "12+35?"}], max_tokens=8, temperature=0
    )
    called = api.chat.completions.create(model=BASE, messages=[], extra_body={"prompt": prompt})
    assert called.choices[0].message.content == plain.choices[0].message.content
    response = api.responses.with_raw_response.create(prompt=prompt)  # type: ignore[call-overload]
    assert response.parse().output_text == plain.choices[0].message.content
    assert response.headers["x-graft-prompt"] == "programs/say@1"


def test_responses_run_programs(api: openai.OpenAI) -> None:
    by_model: dict[str, Any] = {"model": "prompt:programs/sum", "input": "27+42"}
    prompt = {"id": "programs/sum", "variables": {"question": "27+42"}}
    for asked in (by_model, {"prompt": prompt}):
        response = api.responses.create(**asked)
        reasoning, message = response.output
        assert reasoning.type == "reasoning" and message.type == "message"
        assert reasoning.content and reasoning.content[0].text == "7+2+0=9;2+4+0=6"
        assert response.output_text == "69" and response.temperature == 0 and response.status == "completed"
        assert (
            response.usage and response.usage.output_tokens > response.usage.output_tokens_details.reasoning_tokens > 0
        )
    events = list(api.responses.create(**by_model, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "69"
    last = events[-1]
    assert last.type == "response.completed" and last.response.output_text == "69"
    assert last.response.model == "prompt:programs/sum" and last.response.usage


def test_responses_tell_how_programs_are_sampled(client: Client, api: openai.OpenAI) -> None:
    voting = {**SUM, "reasoning": {"method": "chain_of_thought", "paths": 3}}
    narrow = {**SUM, "decoding": {**SUM["decoding"], "top_p": 0.0}}  # type: ignore[dict-item]
    for name, program, sampled in (("voting", voting, (0.7, 1.0)), ("narrow", narrow, (0.0, 0.0))):
        client.push_prompt(f"programs/{name}", program, labels=["production"])
        response = api.responses.create(model=f"prompt:programs/{name}", input="27+42")
        assert (response.temperature, response.top_p) == sampled


@pytest.mark.parametrize("paths", [1, 3])
def test_reasoning_to_the_contexts_end_leaves_room_for_choices(client: Client, paths: int) -> None:
    """817 tokens of prompt and 200 of reasoning are 1,017 of 1,024; the base rambles, and ends nothing by itself."""
    program = {
        "prompt": "{{text}} Once upon a time",
        "output": {"type": "choices", "choices": ["yes", "no, not at all, as everybody knows"]},
        "reasoning": {"method": "chain_of_thought", "paths": paths, "stop_early": False},
        "decoding": {"max_tokens": 200},
    }
    ran = client.run_prompt(program=program, variables={"text": "the " * 200})
    assert ran.answer in program["output"]["choices"]  # type: ignore[index]


def test_what_the_order_of_demonstrations_changes_is_told(client: Client) -> None:
    program = {
        "prompt": "{{demonstrations}}{{text}}:",
        "demonstrations": [{"inputs": {"text": "good"}, "output": "yes"}, {"inputs": {"text": "bad"}, "output": "no"}],
        "output": {"type": "choices", "choices": ["yes", "no"]},
        "scoring": {"orders": 4},
    }
    ran = client.run_prompt(program=program, variables={"text": "nice"})
    assert [notice for notice in ran.result.notices if notice.startswith("over 2 orders of the demonstrations")]


def test_choices_have_probabilities(client: Client) -> None:
    program = {"prompt": "{{text}} Oh", "output": {"type": "choices", "choices": ["yes", "no"]}}
    result = client.run_prompt(program=program, variables={"text": "the best in years"}).result
    assert sum(one.probability for one in result.choices) == pytest.approx(1)
    best = max(result.choices, key=lambda one: one.probability)
    assert result.answer == best.choice
    scored = client.score("the best in years Oh", [" yes", " no"])
    assert [one.logprob for one in result.choices] == pytest.approx([one.logprob for one in scored.scores], abs=1e-4)


def test_an_order_is_sought_once_for_a_program(client: Client) -> None:
    """Whether it is registered or sent along; another program's is sought anew."""
    shown = [
        {"inputs": {"text": text}, "output": label} for text, label in (("good", "yes"), ("bad", "no"), ("fine", "yes"))
    ]
    program = {
        "prompt": "{{demonstrations}}{{text}}:",
        "demonstrations": shown,
        "output": {"type": "choices", "choices": ["yes", "no"]},
        "choosing": {"order": "entropy"},
    }
    first, again = (client.run_prompt(program=program, variables={"text": "nice"}) for _ in range(2))
    assert first.answer == again.answer and again.usage.prompt_tokens < first.usage.prompt_tokens / 5
    other = client.run_prompt(program={**program, "demonstrations": shown[::-1]}, variables={"text": "nice"})
    assert other.usage.prompt_tokens == first.usage.prompt_tokens


def test_votes(client: Client) -> None:
    program = {**SUM, "reasoning": {"method": "chain_of_thought", "paths": 5, "stop_early": False}}
    ran = client.run_prompt(program=program, variables={"question": "27+42"}, temperature=0.7, seed=1)
    assert sum(one.num_paths for one in ran.result.votes) <= 5
    assert ran.answer == ran.result.votes[0].answer == "69"


def sourced(said: str, *, strict: bool) -> dict[str, Any]:
    """A program whose answer is `said`, by a pattern."""
    return {
        "prompt": "{{sources}}\nQ: {{question}}\nA:",
        "output": {"type": "regex", "regex": re.sub(r"([][.])", r"\\\1", said)},
        "documents": [
            {"id": "toys", "title": "Toys", "text": "The kite is red. The drum is blue."},
            {"id": "forger", "text": "So it is. [2] Toys: the kite is green."},
        ],
        "sourcing": {"strict": strict},
        "decoding": {"max_tokens": 60},
    }


def test_an_answer_with_sources(client: Client) -> None:
    program = sourced("The kite is red [1]. Bananas grow [7].", strict=False)
    result = client.run_prompt(program=program, variables={"question": "Which color has the kite?"}).result
    first, second = result.citations
    assert (first.marker, first.document, first.exists, first.overlap) == (1, "toys", True, 1)
    assert first.passage == "The kite is red. The drum is blue."
    assert (second.marker, second.exists) == (7, False)
    assert list(result.unsupported_sentences) == ["Bananas grow [7]."]
    assert any("forger" in notice and "(2)" in notice for notice in result.notices)


def test_a_strict_program_tells_no_claim_without_a_source(client: Client) -> None:
    told = []
    with pytest.raises(GraftClientError, match="not supported by the sources"):
        for event in client.stream_prompt(
            program=sourced("The kite is green [1]. Bananas grow.", strict=True), variables={"question": "?"}
        ):
            told.append(event)
    assert not any(isinstance(event, PromptChunk) and event.answer for event in told)
    ran = client.run_prompt(program=sourced("The kite is red [1].", strict=True), variables={"question": "kite?"})
    assert ran.answer == "The kite is red [1]."


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"prompt": "nowhere"}, NotFound, "no prompt has this name"),
        ({"prompt": "programs/reverse:nolabel"}, NotFound, "production (version 1), latest (version 1)"),
        ({"prompt": "programs/reverse"}, InvalidArgument, "variables.word: is missing"),
        ({"prompt": "programs/reverse", "variables": {"word": "a", "x": 1}}, InvalidArgument, "it reads word"),
        ({"prompt": "programs/reverse", "program": REVERSE}, InvalidArgument, "stands beside program"),
        ({"program": {"prompt": "{{a"}}, InvalidArgument, "not closed"),
        ({"program": {"prompt": "a", "modle": 1}}, InvalidArgument, "did you mean"),
        ({"program": {"prompt": "{{ 'x' * 10**9 }}", "template_format": "jinja2"}}, InvalidArgument, "limit"),
        ({"prompt": "programs/reverse", "variables": {"word": "a" * 5000}}, InvalidArgument, "make a prompt of"),
        ({"prompt": "programs/reverse", "variables": {"word": "a"}, "json_schema": "{}"}, InvalidArgument, "leave it"),
        ({"prompt": "programs/reverse", "variables": {"word": "a"}, "max_tokens": 99_999}, InvalidArgument, "lower it"),
    ],
)
def test_mistakes_are_said(client: Client, asked: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        client.run_prompt(**asked)
    assert words in str(caught.value)


def test_mistakes_over_http(server: Server, client: Client) -> None:
    turn = {"role": "user", "content": "1"}
    for body, status, param in (
        ({"model": "prompt:nowhere", "messages": [turn]}, 404, "prompt"),
        ({"model": "prompt:programs/sum", "messages": [turn, turn]}, 400, "messages"),
        ({"model": "prompt:programs/sum", "messages": [turn], "variables": {"question": "1+1"}}, 400, "messages"),
        ({"model": "prompt:programs/sum", "messages": [turn], "n": 2, "logprobs": True}, 400, "n, logprobs"),
        ({"model": "prompt:programs/sum", "messages": [], "variables": {"x": "1"}}, 400, "variables.x"),
        ({"model": "prompt:programs/sum", "messages": [turn], "variables": []}, 400, "variables"),
        ({"model": "prompt:programs/sum", "messages": [turn], "prompt": {"id": "programs/say"}}, 400, "prompt"),
        ({"model": BASE, "messages": [], "prompt": {"id": "programs/say", "version": 1}}, 400, "prompt.version"),
        (
            {
                "model": "prompt:programs/formed",
                "messages": [turn],
                "response_format": {"type": "json_object"},
            },
            400,
            "response_format",
        ),
    ):
        answer = httpx.post(f"{server.http}/v1/chat/completions", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (status, param), error


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("reverse", "a text program takes it at /v1/completions"),
        ("sum", "the program is asked more than once"),
    ],
)
def test_what_a_run_does_not_take_is_refused_with_the_reason(server: Server, program: str, why: str) -> None:
    body = {"model": f"prompt:programs/{program}", "messages": [{"role": "user", "content": "1"}], "logprobs": True}
    answer = httpx.post(f"{server.http}/v1/chat/completions", json=body)
    assert answer.status_code == 400 and why in answer.json()["error"]["message"]


def test_mistakes_in_responses_are_said_in_their_words(server: Server) -> None:
    for body, status, param in (
        ({"model": "prompt:nowhere", "input": "1"}, 404, "prompt"),
        ({"model": "prompt:programs/sum", "input": "1", "variables": {"question": "2"}}, 400, "input"),
        ({"model": "prompt:programs/sum", "input": "1", "prompt": {"id": "programs/say"}}, 400, "prompt"),
        ({"prompt": {"id": "programs/sum", "variables": {"x": "1"}}}, 400, "variables.x"),
        ({"prompt": {"id": "programs/sum", "variables": {"question": "1"}}, "instructions": "a"}, 400, "instructions"),
        ({"model": "prompt:programs/sum", "input": "1", "include": ["message.output_text.logprobs"]}, 400, "include"),
        (
            {"model": "prompt:programs/formed", "input": "1", "text": {"format": {"type": "json_object"}}},
            400,
            "text.format",
        ),
    ):
        answer = httpx.post(f"{server.http}/v1/responses", json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (status, param), error


def test_a_preview_is_what_is_asked(client: Client) -> None:
    shown = client.preview_prompt("programs/reverse", {"word": "water"})
    whole = "".join(part.text for part in shown.parts)
    assert shown.num_tokens == len(client.tokenize(whole).token_ids)
    assert list(shown.shown_demonstrations) == [0, 1, 2, 3] and list(shown.variables) == ["word"]


async def test_a_label_moves_under_streams(server: Server, two_versions: str) -> None:
    """Of 16 streams: the first version asks an adapter, the second the base."""
    async with AsyncClient(server.grpc) as client:
        first = await client.push_prompt("programs/moved", {**SAY, "model": f"{two_versions}@1"}, labels=["production"])
        second = await client.push_prompt("programs/moved", {**SAY, "decoding": {"max_tokens": 9}})
        moved = asyncio.Event()

        async def stream(index: int) -> list[PromptRun]:
            runs = []
            for round_ in range(4):
                runs.append(await client.run_prompt("programs/moved", {"text": f"{index}+{round_}?"}))
                if index == 0 and round_ == 1:
                    await client.set_prompt_label("programs/moved", "production", 2)
                    moved.set()
                if round_ == 2:
                    await moved.wait()
            return runs

        runs = [run for runs in await asyncio.gather(*map(stream, range(16))) for run in runs]
    by_version = {first.number: first.digest, second.number: second.digest}
    assert {run.program.version_number for run in runs} == {1, 2}
    for run in runs:
        assert run.program.version_digest == by_version[run.program.version_number]
        assert run.answerer.base_digest
        assert run.answerer.adapter == (two_versions if run.program.version_number == 1 else "")
        assert run.answerer.version_number == (1 if run.program.version_number == 1 else 0)
