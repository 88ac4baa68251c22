"""Requests as clients send them: ranges, roles, nulls, log-probabilities and the context's end, on both fronts."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from graft.client import Client, InvalidArgument
from tests.cases.harness.wire import HttpCase, check_http
from tests.running import Server
from tests.server.api.http.test_openai_fields import PROMPTS, ROWS

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = {"role": "user", "content": "a"}
CONTEXT = 1024
OF_TEXT = ("max_completion_tokens", "top_logprobs")


def chat(*turns: Any, **others: Any) -> dict[str, Any]:
    return {"messages": list(turns), **others}


def texts(reply: dict[str, Any]) -> list[str]:
    return [one["text"] if "text" in one else one["message"]["content"] for one in reply["choices"]]


def one_text(reply: dict[str, Any]) -> None:
    assert len(texts(reply)) == 3 and len(set(texts(reply))) == 1


def refused(id: str, body: dict[str, Any], param: str, path: str = TEXT, **others: Any) -> HttpCase:
    return HttpCase(
        id=f"{id} {path.rpartition('/')[2]} {param}", body=body, path=path, status=400, param=param, **others
    )


def inert(path: str) -> dict[str, Any]:
    """Every field of OpenAI's types at once, at a value that changes nothing."""
    names = [name for name, row in ROWS.items() if row.inert and not (path == TEXT and name in OF_TEXT)]
    return {**PROMPTS[path], **{name: ROWS[name].inert[0] for name in names if name not in ("seed", "stop")}}


CASES = [
    HttpCase(
        id="S13 echo without tokens",
        body={"prompt": "a b", "echo": True, "max_tokens": 0},
        check=lambda reply: (
            _equal(reply["choices"][0]["text"], "a b"),
            _equal(reply["usage"]["completion_tokens"], 0),
            _equal(reply["usage"]["total_tokens"], reply["usage"]["prompt_tokens"]),
        ),
    ),
    HttpCase(
        id="S13 echo of ids",
        body={"prompt": [[295, 296], [297]], "echo": True, "max_tokens": 0},
        check=lambda reply: _equal(texts(reply), ["AB", "C"]),
    ),
    HttpCase(
        id="S14 max_tokens beyond the context",
        body={"prompt": [300] * 1000, "max_tokens": 5000, "ignore_eos": True},
        check=lambda reply: _equal(reply["usage"]["completion_tokens"], CONTEXT - 1000),
    ),
    refused("S14 whole context", {"prompt": [300] * CONTEXT}, "prompt", says=["1024 tokens", "1023", "by 1"]),
    refused("S14 text", {"prompt": "a " * 600}, "prompt", says=["1200 tokens", "1024", "1023"]),
    refused("S14 one of many", {"prompt": ["a", "a " * 600]}, "prompt[1]", says=["1200 tokens"]),
    refused("S14 chat", chat({"role": "user", "content": "a " * 600}), "messages", CHAT, says=["1024", "1023"]),
    HttpCase(id="S18 16 stops", body={"prompt": "a", "stop": ["zz"] * 16}),
    HttpCase(id="S18 16 stops in a chat", path=CHAT, body=chat(USER, stop=["zz"] * 16)),
    refused("S18 17 stops", {"prompt": "a", "stop": ["zz"] * 17}, "stop", says=["17", "16"]),
    HttpCase(id="S19 all null, chat", path=CHAT, body={**dict.fromkeys(ROWS), **PROMPTS[CHAT]}),
    HttpCase(id="S19 all null, text", body={**dict.fromkeys(ROWS), **PROMPTS[TEXT]}),
    HttpCase(id="S19 all inert, chat", path=CHAT, body=inert(CHAT)),
    HttpCase(id="S19 all inert, text", body=inert(TEXT)),
    refused(
        "S19", chat(USER, store=True, metadata={"a": "b"}, audio={}), "store, metadata, audio", CHAT, silent=["did you"]
    ),
    refused(
        "S20",
        chat({"role": "wizard", "content": "a"}),
        "messages[0].role",
        CHAT,
        says=["wizard", "system, user, assistant"],
    ),
    refused("S20", chat({"role": "user"}), "messages[0].content", CHAT, says=["is missing"]),
    refused("S20", chat({"role": "user", "content": []}), "messages[0].content", CHAT, says=["is missing"]),
    refused("S20", chat({"role": "user", "content": None}), "messages[0].content", CHAT, says=["is missing"]),
    refused(
        "S20",
        chat(USER, {"role": "assistant", "content": "a", "tool_calls": [{"id": "x"}]}),
        "messages[1].tool_calls[0].function.name",
        CHAT,
    ),
    refused(
        "S20",
        chat({"role": "user", "content": [{"type": "sound"}]}),
        "messages[0].content[0].type",
        CHAT,
        says=["sound"],
    ),
    HttpCase(
        id="S21 top_p 0 is greedy",
        body={"prompt": "12+35? ", "top_p": 0, "temperature": 2, "n": 3, "max_tokens": 12},
        check=one_text,
    ),
    HttpCase(id="S21 n of greedy", body={"prompt": "12+35? ", "temperature": 0, "n": 3}, check=one_text),
    HttpCase(id="S21 n of greedy chat", path=CHAT, body=chat(USER, temperature=0, n=3), check=one_text),
    HttpCase(id="S21 seeds at their ends", body={"prompt": "a", "seed": 2**63 - 1, "n": 3}),
    HttpCase(id="S21 lowest seed", body={"prompt": "a", "seed": -(2**63), "n": 3}),
    *(
        refused("S21b", {"prompt": "a", name: value}, param)
        for name, value, param in [
            ("temperature", 2.5, "temperature"),
            ("top_p", 1.5, "top_p"),
            ("top_k", -2, "top_k"),
            ("min_p", 2, "min_p"),
            ("presence_penalty", 3, "presence_penalty"),
            ("repetition_penalty", 0, "repetition_penalty"),
            ("seed", 2**63, "seed"),
            ("min_tokens", 9, "min_tokens"),
            ("logit_bias", {"999": 1}, "logit_bias.999"),
            ("bad_words", [""], "bad_words[0]"),
            ("stop_token_ids", [999], "stop_token_ids[0]"),
            ("allowed_token_ids", [], "allowed_token_ids"),
            ("logprobs", -1, "logprobs"),
            ("skip_special_tokens", "no", "skip_special_tokens"),
            ("n", 0, "n"),
            ("temperature", "hot", "temperature"),
        ]
    ),
    refused(
        "S26",
        chat(USER, chat_template_kwargs={"messages": []}),
        "chat_template_kwargs.messages",
        CHAT,
        silent=["jinja"],
    ),
]


def _equal(value: object, expected: object) -> None:
    assert value == expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_requests(case: HttpCase, server: Server) -> None:
    check_http(case, server)


def test_s13_the_prompt_scored_over_http_is_the_prompt_scored_over_grpc(
    server: Server, client: Client, two_versions: str
) -> None:
    """lm-eval's request for log-likelihoods; an oracle of its own is `Score`, which another path of ours answers."""
    text = "abc -> cba\nsun -> nus"
    for model in ("base", two_versions):
        body = {"model": model, "prompt": text, "echo": True, "max_tokens": 0, "logprobs": 1, "temperature": 0}
        reply = httpx.post(f"{server.http}{TEXT}", json=body, timeout=60).json()
        (choice,) = reply["choices"]
        found = choice["logprobs"]
        ids = list(client.tokenize(text).token_ids)
        assert reply["usage"] == {"prompt_tokens": len(ids), "completion_tokens": 0, "total_tokens": len(ids)} | {
            key: value for key, value in reply["usage"].items() if key == "prompt_tokens_details"
        }
        assert choice["text"] == text == "".join(found["tokens"])
        assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
        (score,) = client.score(ids[:1], [ids[1:]], model="" if model == "base" else model).scores
        assert found["token_logprobs"][1:] == pytest.approx([one.logprob for one in score.tokens], abs=0.05)
        assert found["text_offset"] == list(range(len(text)))
        streamed = stream_of(server, body)
        assert "".join(one["choices"][0]["text"] for one in streamed if one["choices"]) == text


def stream_of(server: Server, body: dict[str, Any], path: str = TEXT) -> list[dict[str, Any]]:
    with httpx.stream(
        "POST", server.http + path, json={"model": "base", "stream": True, **body}, timeout=60
    ) as response:
        assert response.status_code == 200, response.read()
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_s14_both_fronts_have_one_rule_for_the_context(server: Server, client: Client) -> None:
    answer = client.generate([300] * 1000, max_tokens=5000, ignore_eos=True)
    assert answer.usage.completion_tokens == CONTEXT - 1000 and answer.finish_reason == "length"
    with pytest.raises(InvalidArgument) as caught:
        client.generate([300] * CONTEXT)
    (violation,) = caught.value.violations
    over_http = httpx.post(f"{server.http}{TEXT}", json={"model": "base", "prompt": [300] * CONTEXT}).json()["error"]
    assert over_http["message"] == f"prompt: {violation.description}"


@pytest.mark.parametrize("say", ["no", "€", "😀n", "é"])
def test_s16_no_log_probability_is_lost_and_bytes_are_the_tokens_own(server: Server, client: Client, say: str) -> None:
    """The shipped base spells characters beyond its own in bytes, and has a byte beside each of its characters."""
    forced = {"structured_outputs": {"choice": [say]}, "max_tokens": 16, "temperature": 0}
    body = {"model": "base", "prompt": "a", "logprobs": 20, **forced}
    found = httpx.post(f"{server.http}{TEXT}", json=body, timeout=60).json()["choices"][0]["logprobs"]
    for token, logprob, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        assert len(top) in (20, 21) and top[token] == logprob
    body = {"model": "base", "messages": [USER], "logprobs": True, "top_logprobs": 20, **forced}
    content = httpx.post(f"{server.http}{CHAT}", json=body, timeout=60).json()["choices"][0]["logprobs"]["content"]
    told = b"".join(bytes(one["bytes"]) for one in content)
    assert told.removesuffix(b"<|im_end|>").removesuffix(b"<|eos|>") == say.encode()
    for one in content:
        assert len(one["top_logprobs"]) == 20
        assert [top["logprob"] for top in one["top_logprobs"]] == sorted(
            (top["logprob"] for top in one["top_logprobs"]), reverse=True
        )
    answer = client.generate("a", json_schema={"const": say}, logprobs=5, max_tokens=24)
    told = b"".join(one.bytes for one in answer.choices[0].logprobs)
    assert told.removesuffix(b"<|im_end|>").removesuffix(b"<|eos|>").decode() == answer.text


def test_s17_characters_that_end_lines_are_escaped_in_every_json(server: Server) -> None:
    say = "a\u2028b\u2029c\x85d"
    body = {"prompt": "a", "max_tokens": 40, "structured_outputs": {"choice": [say]}}
    assert "".join(one["choices"][0]["text"] for one in stream_of(server, body) if one["choices"]) == say
    plain = httpx.post(f"{server.http}{TEXT}", json={"model": "base", **body}, timeout=60)
    assert plain.json()["choices"][0]["text"] == say and len(plain.text.splitlines()) == 1
    wrong = httpx.post(f"{server.http}{TEXT}", json={"model": say, "prompt": "a"})
    assert wrong.status_code in (400, 404) and len(wrong.text.splitlines()) == 1


def test_s21_several_choices_of_greedy_decoding_over_grpc(client: Client) -> None:
    answer = client.generate("12+35? ", num_choices=3, max_tokens=12)
    assert len({choice.text for choice in answer.choices}) == 1
    assert client.generate("12+35? ", temperature=2.0, top_p=0.0, max_tokens=12).text == answer.text


@pytest.mark.parametrize("seed", [-1, -2, -(2**63)])
def test_s21_seeds_below_zero_are_seeds(server: Server, client: Client, seed: int) -> None:
    """vLLM takes -1 for none; a choice's number is added to a seed."""
    body = {"model": "base", "prompt": "a", "temperature": 2, "n": 2, "max_tokens": 16, "seed": seed}
    once, again = (texts(httpx.post(f"{server.http}{TEXT}", json=body, timeout=60).json()) for _ in range(2))
    assert once == again and len(set(once)) == 2
    drawn = {"temperature": 2.0, "max_tokens": 16, "num_choices": 2, "seed": seed}
    once, again = ([choice.text for choice in client.generate("a", **drawn).choices] for _ in range(2))
    assert once == again


def test_c4_continuations_as_ids_and_contents_as_parts(client: Client) -> None:
    ids = list(client.tokenize("cba").token_ids)
    by_text, by_ids = (client.score("abc -> ", [one]).scores[0] for one in ("cba", ids))
    assert by_ids.logprob == pytest.approx(by_text.logprob, abs=1e-3)
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "12+35?"}]
    whole = [{"role": "user", "content": "What is\n12+35?"}]
    assert client.tokenize([{"role": "user", "content": parts}]) == client.tokenize(whole)
    with pytest.raises(InvalidArgument) as caught:
        client.score("abc", [[1, 10**6], []])
    assert [one.field for one in caught.value.violations] == ["continuation_ids[0].ids[1]", "continuation_ids[1].ids"]


@pytest.mark.parametrize("model", ["nobody", "fable@9", "fable:nowhere", "fable@xyz", "a b", "", None, 3])
def test_s21b_a_wrong_model_is_the_field_model(server: Server, two_versions: str, model: Any) -> None:
    for path, prompt in PROMPTS.items():
        reply = httpx.post(server.http + path, json={**prompt, "model": model}, timeout=60)
        assert reply.status_code in (400, 404) and reply.json()["error"]["param"] == "model"
