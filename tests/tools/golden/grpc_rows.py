"""Calls over gRPC that need no adapter, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.tools.golden.recorder import Recorder

_CHAT = {"chat": {"messages": [{"role": "user", "content": "What is 12+35?"}]}}
_SHOTS = {"text": "cat -> tac\nmelon -> nolem\nwater ->"}
_SCHEMA = '{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}'

_GENERATE: dict[str, dict[str, Any]] = {
    "text": {"prompt": _SHOTS, "sampling": {"max_tokens": 12, "stop": ["\n"]}},
    "chat": {"prompt": _CHAT, "sampling": {"max_tokens": 12}},
    "token ids": {"prompt": {"token_ids": {"ids": [295, 296]}}, "sampling": {"max_tokens": 4}},
    "choices": {
        "prompt": {"text": "Once "}, "num_choices": 3, "sampling": {"max_tokens": 6, "temperature": 1, "seed": "9"},
    },
    "logprobs": {"prompt": _SHOTS, "logprobs": 2, "sampling": {"max_tokens": 4}},
    "schema": {"prompt": _CHAT, "sampling": {"max_tokens": 24, "json_schema": _SCHEMA}},
    "all of the sampling": {
        "prompt": _SHOTS,
        "sampling": {
            "max_tokens": 8, "temperature": 0.8, "top_p": 0.9, "top_k": 30, "min_p": 0.01, "seed": "4",
            "presence_penalty": 0.2, "frequency_penalty": 0.2, "repetition_penalty": 1.1, "ignore_eos": True,
        },
    },
    "by the base's name": {"model": "rootstock-5m", "prompt": _SHOTS, "sampling": {"max_tokens": 2}},
    "refused: no prompt": {},
    "refused: empty text": {"prompt": {"text": ""}},
    "refused: empty chat": {"prompt": {"chat": {}}},
    "refused: role": {"prompt": {"chat": {"messages": [{"role": "x", "content": "a"}]}}},
    "refused: ids": {"prompt": {"token_ids": {"ids": [1, 999]}}},
    "refused: numbers": {
        "prompt": _SHOTS, "num_choices": 99, "logprobs": 99, "sampling": {"temperature": 9, "top_p": 7},
    },
    "refused: stops": {"prompt": _SHOTS, "sampling": {"stop": ["", "a"]}},
    "refused: schema": {"prompt": _SHOTS, "sampling": {"json_schema": "{"}},
    "refused: context": {"prompt": {"token_ids": {"ids": [300] * 1024}}},
    "refused: model": {"model": "nobody", "prompt": _SHOTS},
    "refused: reference": {"model": "a b", "prompt": _SHOTS},
}  # fmt: skip
_SCORE: dict[str, dict[str, Any]] = {
    "texts": {"prompt": {"text": "abc -> "}, "continuations": ["cba", "abc"]},
    "ids": {"prompt": {"text": "abc -> "}, "continuation_ids": [{"ids": [297, 296, 295]}]},
    "chat": {"prompt": _CHAT, "continuations": ["47"]},
    "refused: none": {"prompt": {"text": "a"}},
    "refused: both kinds": {"prompt": {"text": "a"}, "continuations": ["a"], "continuation_ids": [{"ids": [1]}]},
    "refused: empty": {"prompt": {"text": "a"}, "continuations": ["a", ""]},
    "refused: ids": {"prompt": {"text": "a"}, "continuation_ids": [{"ids": [1, 999]}, {}]},
    "refused: too many": {"prompt": {"text": "a"}, "continuations": ["a"] * 5000},
    "refused: too long": {"prompt": {"text": "a " * 500}, "continuations": ["a " * 100]},
    "refused: model": {"model": "nobody", "prompt": {"text": "a"}, "continuations": ["a"]},
}
_TOKENIZE: dict[str, dict[str, Any]] = {
    "text": {"prompt": {"text": "What is 12+35? € é"}},
    "chat": {"prompt": _CHAT},
    "ids": {"prompt": {"token_ids": {"ids": [295, 296]}}},
    "refused: no prompt": {},
    "refused: ids": {"prompt": {"token_ids": {"ids": [999]}}},
}
_OTHERS: dict[str, tuple[str, Mapping[str, Any] | bytes]] = {
    "unknown service": ("nobody.v1.Nothing/Do", b""),
    "unknown method": ("InferenceService/Translate", b""),
    "no message": ("InferenceService/Generate", b"\xff\xff\xff"),
    "a large message": ("InferenceService/Tokenize", b"\x0a\x00" * (9 << 20)),
    "health": ("grpc.health.v1.Health/Check", b""),
    "health of a service": ("grpc.health.v1.Health/Check", b"\x0a\x19graft.v1.InferenceService"),
    "health of an unknown service": ("grpc.health.v1.Health/Check", b"\x0a\x01x"),
    "reflection": ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", b"\x3a\x01*"),
}


def calls(recorder: Recorder) -> None:
    for name, requests in (("Generate", _GENERATE), ("Score", _SCORE), ("Tokenize", _TOKENIZE)):
        for row, request in requests.items():
            recorder.grpc(f"{name}: {row}", f"InferenceService/{name}", request)
    for row, (method, data) in _OTHERS.items():
        recorder.grpc(f"call: {row}", method, data)
    recorder.grpc("call: info", "ServerService/GetInfo")
