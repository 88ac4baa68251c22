"""The official `openai` client against the server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest

from tests.running import BASE, Server

CHAT = [{"role": "user", "content": "What is 12+35?"}]


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.http}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_models_name_the_base_and_the_adapters(api: openai.OpenAI, two_versions: str) -> None:
    assert {BASE, two_versions} <= {model.id for model in api.models.list()}
    assert api.models.retrieve(two_versions).id == two_versions


def test_chat(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(model=BASE, messages=CHAT, max_completion_tokens=12, temperature=0)
    assert answer.model == BASE
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.completion_tokens <= 12
    assert answer.system_fingerprint.startswith("sha256:")


def test_streamed_chat_is_the_whole_answer(api: openai.OpenAI, two_versions: str) -> None:
    arguments = {"model": two_versions, "messages": CHAT, "max_completion_tokens": 16, "temperature": 0}
    whole = api.chat.completions.create(**arguments)
    chunks = list(api.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert {chunk.model for chunk in chunks} == {two_versions}
    # What is in the cache by then is another matter.
    left_out = {"prompt_tokens_details"}
    assert chunks[-1].usage.model_dump(exclude=left_out) == whole.usage.model_dump(exclude=left_out)
    assert len({chunk.id for chunk in chunks}) == 1


def test_completions_streaming_and_not(api: openai.OpenAI, two_versions: str) -> None:
    arguments = {"model": two_versions, "prompt": "a -> ", "max_tokens": 16, "temperature": 0}
    whole = api.completions.create(**arguments)
    parts = list(api.completions.create(**arguments, stream=True))
    assert "".join(part.choices[0].text for part in parts if part.choices) == whole.choices[0].text
    assert whole.model == two_versions


def test_several_choices(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(
        model=BASE, messages=CHAT, n=3, max_completion_tokens=8, temperature=1.0, seed=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_log_probabilities(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(
        model=BASE, messages=CHAT, logprobs=True, top_logprobs=3, max_completion_tokens=4, temperature=0
    )
    tokens = answer.choices[0].logprobs.content
    assert 1 <= len(tokens) <= 4
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(each.logprob for each in token.top_logprobs) <= 0
    echoed = api.completions.create(model=BASE, prompt="abc", echo=True, logprobs=1, max_tokens=1, temperature=0)
    assert echoed.choices[0].text.startswith("abc")
    assert echoed.choices[0].logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in echoed.choices[0].logprobs.token_logprobs[1:])


def test_stop(api: openai.OpenAI) -> None:
    arguments = {"model": BASE, "prompt": "cat -> tac\nsun -> nus\nred -> ", "max_tokens": 40, "temperature": 0}
    answer = api.completions.create(**arguments, stop=["\n"])
    assert "\n" not in answer.choices[0].text
    assert answer.choices[0].finish_reason == "stop"


def test_json_schema(api: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": ["yes", "no"]}, "digit": {"enum": [1, 2, 3]}},
        "required": ["answer", "digit"],
        "additionalProperties": False,
    }
    answer = api.chat.completions.create(
        model=BASE,
        messages=CHAT,
        max_completion_tokens=80,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}},
    )
    reply = json.loads(answer.choices[0].message.content)
    assert reply["answer"] in ("yes", "no")
    assert reply["digit"] in (1, 2, 3)


def test_tools_need_not_be_called(api: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    with pytest.raises(openai.BadRequestError, match="tools"):
        api.chat.completions.create(model=BASE, messages=CHAT, tools=[{"type": "function"}])
    answer = api.chat.completions.create(
        model=BASE, messages=CHAT, tools=[tool], tool_choice="none", max_completion_tokens=4
    )
    assert answer.choices[0].message.tool_calls is None


def test_the_answering_version_is_named(api: openai.OpenAI, two_versions: str) -> None:
    raw = api.chat.completions.with_raw_response.create(
        model=f"{two_versions}@2", messages=CHAT, max_completion_tokens=2
    )
    assert raw.headers["x-graft-adapter"] == f"{two_versions}@2"
    assert raw.headers["x-graft-version"] == raw.parse().system_fingerprint
    assert raw.parse().model == f"{two_versions}@2"


@pytest.mark.parametrize("model", ["nobody", f"{BASE}x", "fable@99", "fable:nowhere"])
def test_unknown_model(api: openai.OpenAI, two_versions: str, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        api.chat.completions.create(model=model, messages=CHAT)
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        api.completions.create(model=model, prompt="a", stream=True)


@pytest.mark.parametrize(
    "extra",
    [
        {"temperatur": 1},
        {"cache_salt": "sha256:stolen"},
        {"n": 1_000_000_000},
        {"temperature": -1},
        {"stop": ["x"] * 100_000},
        {"max_completion_tokens": 0},
        {"logit_bias": {"999999": 1}},
        {"top_logprobs": 1_000, "logprobs": True},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_bad_values_are_refused_by_name(api: openai.OpenAI, extra: dict[str, object]) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        api.chat.completions.create(model=BASE, messages=CHAT, extra_body=extra)
    assert next(iter(extra)) in f"{error.value.param} {error.value.message}"


def test_prompt_beyond_the_context(api: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        api.completions.create(model=BASE, prompt="a" * 5000)
    with pytest.raises(openai.BadRequestError):
        api.completions.create(model=BASE, prompt=[10**6])


def test_graders_that_are_models(api: openai.OpenAI, two_versions: str) -> None:
    """What a small model says is worth little, but it has the form that was asked for."""
    asked = [{"role": "user", "content": "Is {{sample.output_text}} the same as {{item.answer}}?"}]
    label = {"type": "label_model", "name": "l", "model": two_versions, "input": asked, "labels": ["yes", "no"]}
    score = {
        "type": "score_model",
        "name": "s",
        "model": BASE,
        "input": asked,
        "range": [-1e15, 1e15],
        "sampling_params": {"max_completions_tokens": 400, "temperature": 0.0},
    }
    grader = {
        "type": "multi",
        "name": "m",
        "graders": {"label": {**label, "passing_labels": ["yes", "no"]}, "score": score},
        "calculate_output": "label + 0 * score",
    }
    ran = api.fine_tuning.alpha.graders.run(grader=grader, model_sample="47", item={"answer": "47"})
    assert ran.sub_rewards["label"] == 1
    assert set(ran.api_model_grader_token_usage_per_model) == {BASE, two_versions}
    # A model that rambles comes to no number.
    errors = {name for name, told in ran.metadata.errors.to_dict().items() if told is True}
    assert errors <= {"model_grader_parse_error"}
