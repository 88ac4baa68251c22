"""Requests over HTTP: what is answered and what is refused, one row each."""

from __future__ import annotations

from typing import Any

from tests.tools.golden.recorder import Recorder

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
_USER = {"role": "user", "content": "What is 12+35?"}
_SHOTS = "cat -> tac\nmelon -> nolem\nwater ->"
_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}

_TEXT_ANSWERED: dict[str, dict[str, Any]] = {
    "greedy": {"prompt": _SHOTS, "stop": "\n"},
    "token ids": {"prompt": [295, 296, 297]},
    "several prompts": {"prompt": ["12+35?", "7+8?"], "max_tokens": 8},
    "several prompts as ids": {"prompt": [[295, 296], [297]], "max_tokens": 4},
    "n with a seed": {"prompt": "Once ", "n": 3, "seed": 7, "temperature": 1.0},
    "all of the sampling": {
        "prompt": "Once ", "seed": 3, "temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.01,
        "presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty": 1.1, "min_tokens": 3,
    },
    "logprobs": {"prompt": _SHOTS, "logprobs": 3, "max_tokens": 6},
    "echo without tokens": {"prompt": "abc -> cba", "echo": True, "max_tokens": 0, "logprobs": 1},
    "echo with tokens": {"prompt": "abc -> ", "echo": True, "max_tokens": 4},
    "stop token and its text": {"prompt": _SHOTS, "stop": ["\n"], "include_stop_str_in_output": True},
    "bias": {"prompt": _SHOTS, "logit_bias": {"300": 50}, "max_tokens": 4},
    "bad words": {"prompt": _SHOTS, "bad_words": ["re"], "max_tokens": 6},
    "allowed ids": {"prompt": "a", "allowed_token_ids": [295, 296], "max_tokens": 4},
    "choice": {"prompt": "a", "structured_outputs": {"choice": ["no", "yes"]}},
    "regex": {"prompt": "a", "structured_outputs": {"regex": "[0-9]{3}"}},
    "up to the context's end": {"prompt": [300] * 1000, "max_tokens": 5000, "ignore_eos": True},
    "nulls": {"prompt": "a", "stop": None, "seed": None, "logit_bias": None, "user": None},
}  # fmt: skip
_CHAT_ANSWERED: dict[str, dict[str, Any]] = {
    "greedy": {"messages": [_USER]},
    "turns": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            _USER,
            {"role": "assistant", "content": "47"},
            {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "13+35?"}]},
        ]
    },
    "n and seed": {"messages": [_USER], "n": 2, "seed": 5, "temperature": 1.2},
    "logprobs": {"messages": [_USER], "logprobs": True, "top_logprobs": 2, "max_completion_tokens": 5},
    "json schema": {
        "messages": [_USER],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA, "strict": True}},
        "max_tokens": 40,
    },
    "json object": {"messages": [_USER], "response_format": {"type": "json_object"}, "max_tokens": 12},
    "tools not called": {
        "messages": [_USER],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "none",
    },
}
_STREAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "text": (TEXT, {"prompt": _SHOTS, "max_tokens": 8}),
    "text with usage": (TEXT, {"prompt": _SHOTS, "max_tokens": 4, "stream_options": {"include_usage": True}}),
    "text with continuous usage": (
        TEXT,
        {
            "prompt": "a",
            "max_tokens": 3,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        },
    ),
    "text with logprobs": (TEXT, {"prompt": "a", "max_tokens": 3, "logprobs": 2}),
    "text with echo": (TEXT, {"prompt": "a b", "max_tokens": 3, "echo": True}),
    "chat": (CHAT, {"messages": [_USER], "max_tokens": 8}),
    "chat with usage": (CHAT, {"messages": [_USER], "max_tokens": 4, "stream_options": {"include_usage": True}}),
    "chat with logprobs": (CHAT, {"messages": [_USER], "max_tokens": 3, "logprobs": True, "top_logprobs": 2}),
    "chat by a choice": (CHAT, {"messages": [_USER], "structured_outputs": {"choice": ["yes"]}}),
}
_TEXT_REFUSED: dict[str, dict[str, Any]] = {
    "no prompt": {},
    "empty prompt": {"prompt": ""},
    "mixed prompts": {"prompt": ["a", [1]]},
    "unknown token": {"prompt": [1, 999]},
    "whole context": {"prompt": [300] * 1024},
    "one prompt too long": {"prompt": ["a", "a " * 600]},
    "too many sequences": {"prompt": ["a"] * 64, "n": 64},
    "unknown field": {"prompt": "a", "temprature": 1},
    "several at once": {"prompt": "a", "temperature": 3, "top_p": -1, "n": 0, "seed": "x"},
    "stops": {"prompt": "a", "stop": ["zz"] * 17},
    "bias of no token": {"prompt": "a", "logit_bias": {"999": 1}},
    "logprobs": {"prompt": "a", "logprobs": 99},
    "suffix": {"prompt": "a", "suffix": "x"},
    "best_of": {"prompt": "a", "best_of": 3},
    "stream_options alone": {"prompt": "a", "stream_options": {"include_usage": True}},
    "broken regex": {"prompt": "a", "structured_outputs": {"regex": "("}},
    "two structures": {"prompt": "a", "structured_outputs": {"regex": "a", "choice": ["a"]}},
    "min_tokens": {"prompt": "a", "max_tokens": 2, "min_tokens": 9},
    "unknown model": {"prompt": "a", "model": "nobody"},
    "unknown version": {"prompt": "a", "model": "nobody@3"},
    "no reference": {"prompt": "a", "model": "a b:c@d"},
    "model is no text": {"prompt": "a", "model": 3},
}
_CHAT_REFUSED: dict[str, dict[str, Any]] = {
    "no messages": {},
    "empty messages": {"messages": []},
    "role": {"messages": [{"role": "wizard", "content": "a"}]},
    "no content": {"messages": [{"role": "user"}]},
    "image": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    "tools": {"messages": [_USER], "tools": [{"type": "function", "function": {"name": "f"}}]},
    "template's variables": {"messages": [_USER], "chat_template_kwargs": {"messages": []}},
    "reasoning": {"messages": [_USER], "reasoning_effort": "high"},
    "schema": {
        "messages": [_USER],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "thing"}}},
    },
    "too long": {"messages": [{"role": "user", "content": "a " * 600}]},
    "unknown model": {"messages": [_USER], "model": "nobody:stable"},
    "top_logprobs alone": {"messages": [_USER], "top_logprobs": 3},
}
_BODIES: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "no object": b"[1]",
    "not UTF-8": b'{"model": "\xff"}',
    "not a number": b'{"model": "base", "prompt": "a", "temperature": NaN}',
    "key twice": b'{"model": "base", "model": "base", "prompt": "a"}',
    "deep": b'{"model": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "large": b'{"prompt": "' + b"a" * (2 << 20) + b'"}',
    "byte order mark": b'\xef\xbb\xbf{"model": "base", "prompt": "a", "max_tokens": 2}',
}


def answered(recorder: Recorder) -> None:
    """What the base answers, whole and streamed."""
    fixed = {"model": "base", "temperature": 0, "max_tokens": 16}
    for row, fields in _TEXT_ANSWERED.items():
        recorder.http(f"text: {row}", TEXT, {**fixed, **fields})
    for row, fields in _CHAT_ANSWERED.items():
        if "max_completion_tokens" in fields:
            fields = {**fields, "max_tokens": None}
        recorder.http(f"chat: {row}", CHAT, {**fixed, **fields})
    for row, (path, fields) in _STREAMED.items():
        recorder.http(f"stream: {row}", path, {**fixed, **fields, "stream": True})


def refused(recorder: Recorder) -> None:
    """Refusals by their fields, bodies, methods and routes."""
    for row, fields in _TEXT_REFUSED.items():
        recorder.http(f"text refused: {row}", TEXT, {"model": "base", **fields})
        if row in ("several at once", "unknown model"):
            recorder.http(f"stream refused: {row}", TEXT, {"model": "base", "stream": True, **fields})
    for row, fields in _CHAT_REFUSED.items():
        recorder.http(f"chat refused: {row}", CHAT, {"model": "base", **fields})
    for row, body in _BODIES.items():
        recorder.http(f"body: {row}", TEXT, body)
    plain = {"model": "base", "prompt": "a", "max_tokens": 2, "temperature": 0}
    recorder.http("body: gzip", TEXT, b"x", headers={"content-encoding": "gzip"})
    recorder.http("body: another type", TEXT, plain, headers={"content-type": "text/plain"})
    recorder.http("header: an id with a space", TEXT, plain, headers={"x-request-id": "a b"})
    recorder.http("header: a token", TEXT, plain, headers={"authorization": "Bearer none"})
    for method, path in [("GET", TEXT), ("DELETE", CHAT), ("POST", "/v1/models"), ("PUT", "/livez"), ("HEAD", "/livez"),
                         ("OPTIONS", CHAT)]:  # fmt: skip
        recorder.http(f"method: {method} {path}", path, method=method)
    for path in ("/", "/v1", "/v1/embeddings", "/v1/completions/", "/docs", "/openapi.json", "/health", "/version"):
        recorder.http(f"route: {path}", path)
    recorder.raw_http("raw: no HTTP", b"NONSENSE\r\n\r\n")
    recorder.raw_http("raw: no host", b"GET /livez HTTP/1.1\r\n\r\n")


def operations(recorder: Recorder, when: str) -> None:
    """Probes, metrics and models."""
    for path in ("/livez", "/readyz", "/metrics", "/v1/models"):
        recorder.http(f"{when}: {path}", path)
    for name in ("base", "rootstock-5m", "nobody", "tale", "tale:stable", "tale@1", "a/b"):
        recorder.http(f"{when}: /v1/models/{name}", f"/v1/models/{name}")
