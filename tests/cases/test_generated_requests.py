"""Requests put together by chance from good values, bad values and junk: answered, or refused by the field's name."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.cases.harness.words import faults_of
from tests.running import Server
from tests.server.api.http.test_openai_fields import ROWS

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
AT_ONCE = 6
# Beyond OpenAI's fields: vLLM's that are honoured, of its others some, and none at all.
BEYOND = (
    "allowed_token_ids", "bad_words", "ignore_eos", "include_stop_str_in_output", "min_p", "min_tokens",
    "repetition_penalty", "skip_special_tokens", "stop_token_ids", "structured_outputs", "top_k",
    "chat_template_kwargs", "add_generation_prompt", "priority", "cache_salt", "nonsense",
)  # fmt: skip
JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, 1e308, 2**31, 2**63, -(2**63), "", "a", "0", "\x00", "\u2028", "x" * 300,
    [], [1], ["a"], [[1]], [None], [{}], [[[]]], ["a"] * 20, [{"role": "user"}], {}, {"a": 1}, {"1": 5}, {"300": -100},
    {"type": "text"}, {"type": "json_object"}, {"include_usage": True},
)  # fmt: skip
PROMPTS: tuple[Any, ...] = (
    "a", [1, 2], ["a", "b"], [[1, 2], [3]], "12+35? ", "\u2028é😀", "<|im_end|>", [0], [383],
    "", None, [], [384], [300] * 1024, "a" * 1100, ["a", [1]], 5, {},
)  # fmt: skip
CHATS: tuple[Any, ...] = (
    [{"role": "user", "content": "a"}],
    [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
    [{"role": "system", "content": "a"}, {"role": "user", "content": "é😀\u2028<|im_end|>"}],
    [{"role": "user", "content": "a" * 1100}], [{"role": "x", "content": "a"}],
    [{"role": "assistant", "content": None}], [], None, [{}], [1], "a",
)  # fmt: skip


def request(draw: random.Random) -> tuple[str, dict[str, Any]]:
    """Mostly good parts, so that many requests reach the engine."""
    path = draw.choice((CHAT, TEXT))
    name, parts, num_good = ("messages", CHATS, 3) if path == CHAT else ("prompt", PROMPTS, 9)
    body: dict[str, Any] = {
        "model": "base" if draw.random() < 0.95 else draw.choice(("nobody", "a b", "", None, 3)),
        name: draw.choice(parts[:num_good]) if draw.random() < 0.9 else draw.choice(parts),
        "max_tokens": draw.choice((0, 1, 2, 4, 4, 4)),
    }
    for field in draw.sample((*ROWS, *BEYOND), draw.choice((0, 1, 1, 2, 4))):
        body[field] = value(field, draw)
    body |= {name: True for name in ("stream", "echo") if draw.random() < 0.2}
    if draw.random() < 0.3:
        body["logprobs"] = True if path == CHAT else draw.choice((0, 1, 5))
    return path, body


def value(field: str, draw: random.Random) -> Any:
    row, chance = ROWS.get(field), draw.random()
    if row and row.inert and chance < 0.85:
        return draw.choice(row.inert)
    if row and row.refused and chance < 0.92:
        return draw.choice(row.refused)
    return draw.choice(JUNK)


@pytest.mark.parametrize("num_requests", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_request_is_the_servers_fault(server: Server, num_requests: int) -> None:
    draw = random.Random(num_requests)
    requests = [request(draw) for _ in range(num_requests)]
    num_answered = 0
    with httpx.Client(timeout=120) as http, ThreadPoolExecutor(AT_ONCE) as threads:

        def ask(one: tuple[str, dict[str, Any]]) -> httpx.Response:
            return http.post(server.http + one[0], content=json.dumps(one[1]))

        for (path, body), reply in zip(requests, threads.map(ask, requests), strict=True):
            told = f"{path} {json.dumps(body)[:500]}: {reply.status_code} {reply.text[:500]}"
            if reply.status_code == 200:
                num_answered += 1
                assert body.get("stream") is not True or reply.text.endswith("data: [DONE]\n\n"), told
                assert not [one for one in reply.text.splitlines() if one and one[0] not in "d{"], told
            else:
                error = reply.json()["error"]
                assert reply.status_code in (400, 404) and error["param"], told
                assert not faults_of(error["message"]) and "Input should" not in error["message"], told
    assert num_answered > num_requests / 5
