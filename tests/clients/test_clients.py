"""Chats, streams, JSON-schema modes, tools, log-probabilities and scoring through the clients that people have."""

from __future__ import annotations

from typing import Any

import pytest

from graft.adapters.base.base import Base
from graft.client import Client
from tests.clients.conftest import Ask

pytestmark = pytest.mark.slow
TEXT = "cat -> tac\nsun -> nus\nred -> "
MESSAGES = [{"role": "user", "content": "What is 12+35?"}]
# lm-eval moves blanks at a context's end to the continuation, so there are none.
PAIRS = [[TEXT.rstrip(), " der\n"], [TEXT.rstrip(), " red\n"], ["12+35=", "47"], ["12+35=", "48"]]


def asked(ask: Ask, client: str, **values: Any) -> Any:
    return ask(client, text=TEXT, messages=MESSAGES, **{"model": "base", **values})


def is_reply(value: dict[str, Any]) -> bool:
    return set(value) == {"answer", "digit"} and value["answer"] in ("yes", "no") and value["digit"] in (1, 2, 3)


def test_openai(ask: Ask, client: Client, two_versions: str) -> None:
    for model in ("base", two_versions):
        got = asked(ask, "openai", model=model)
        whole, streamed = got["usage"]
        assert got["plain"] == got["streamed"] and whole == streamed and min(whole) > 0
        assert is_reply(got["parsed"]) and got["again"] in ("stop", "length")
        assert b"".join(map(bytes, got["bytes"])).decode().startswith(got["plain"])
        ids = list(client.tokenize(TEXT).token_ids)
        scores = client.score(ids[:1], [ids[1:]], model="" if model == "base" else model).scores[0]
        assert got["scored"][1:] == pytest.approx([one.logprob for one in scores.tokens], abs=0.05)
        assert got["scored"][0] is None and got["generated"] == 0


def test_langchain(ask: Ask, client: Client) -> None:
    got = asked(ask, "langchain-openai")
    assert got["plain"] == got["streamed"] and got["usage"] > 0
    assert set(got["structured"]) == {"json_schema", "function_calling"}
    assert all(is_reply(reply) for reply in got["structured"].values())
    assert [name for name, _ in got["called"]["add"]["calls"]] == ["add"]
    for told in got["called"].values():
        assert told["calls"] == told["streamed"] and told["calls"] and not told["invalid"]
        assert len(told["results"]) == len(told["calls"]) and isinstance(told["last"], str)
    assert set(got["logprobs"]) == {2}
    assert got["text"] == client.generate(TEXT, max_tokens=12).text


def test_litellm(ask: Ask, client: Client) -> None:
    got = asked(ask, "litellm")
    assert got["plain"] == got["streamed"] and is_reply(got["parsed"]) and set(got["logprobs"]) == {2}
    for whole, rebuilt in got["called"].values():
        assert whole == rebuilt and [name for name, _ in whole] == ["add"] and whole[0][1]["a"] in (1, 2)
    assert got["text"] == client.generate(TEXT, max_tokens=12).text


def test_instructor(ask: Ask) -> None:
    got = asked(ask, "instructor")
    assert set(got["replies"]) == {"json_schema_mode", "tool_call"}
    assert all(is_reply(reply) for reply in got["replies"].values()) and is_reply(got["partial"])


def test_langfuse(ask: Ask) -> None:
    """Texts, chats with placeholders, labels, versions and a name with `/`, written and read by its client."""
    got = ask("langfuse")
    assert got["text"] == ["Say hello to Jane.", 1, ["production", "latest"], {"owner": "jo"}]
    assert got["chat"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "bye"},
    ]
    assert got["by_label"] == got["by_version"] == [2, ["canary", "latest"]]
    assert got["moved"] == [2, ["canary", "production", "latest"]]
    assert got["listed"] == [["of-langfuse/team/greet", [1, 2]]]
    assert got["missing"] == 404 and got["fallback"] == "as before"


def test_lm_eval(ask: Ask, client: Client, base: Base, two_versions: str) -> None:
    """Its log-likelihoods are those of `Score`, of the base and of an adapter."""
    for model in ("base", two_versions):
        got = asked(ask, "lm-eval", model=model, tokenizer=str(base.path), pairs=PAIRS)
        for (text, continuation), (logprob, is_greedy) in zip(PAIRS, got["scores"], strict=True):
            (score,) = client.score(text, [continuation], model="" if model == "base" else model).scores
            assert logprob == pytest.approx(score.logprob, abs=0.1)
            assert is_greedy == score.is_greedy
        assert len(got["texts"]) == len(got["answers"]) == 1
