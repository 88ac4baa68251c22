"""The text behind prompts that end inside a character: what the tokens' bytes are, and no word of the prompt twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer
from vllm import SamplingParams
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

from graft.adapters.base.base import shipped_bases
from graft.server.engine.tokenizer.token_bytes import unfinished
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from graft.server.engine.vllm.detokenizer import start_inside_characters
from tests.training.tokenizers_of import make_tokenizer


def generated(tokenizer: Any, prompt: list[int], ids: list[int]) -> str:
    start_inside_characters()
    request: Any = SimpleNamespace(request_id="a", prompt_token_ids=prompt, sampling_params=SamplingParams())
    made: Any = IncrementalDetokenizer.from_new_request(tokenizer, request)
    return "".join(made.decode_next(token_id) for token_id in ids)


@pytest.fixture(scope="module")
def shipped() -> Any:
    return AutoTokenizer.from_pretrained(str(shipped_bases()["rootstock-5m"]))


def byte_ids(tokenizer: Any, data: bytes) -> list[int]:
    return [int(tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>")) for byte in data]


@pytest.mark.parametrize(
    ("prompt", "reply", "text", "echoed"),
    [
        (b"A\xe2\x82", b"\xac!", "€!", "A"),
        (b"A\xe2", b"\x82\xac", "€", "A"),
        (b"A\xf0\x9f\x98", b"\x80\xe2\x82\xac", "😀€", "A"),
        (b"A\xc4", b"e", "\ufffde", "A"),
        ("A\ufffd".encode(), b"ee", "ee", "A\ufffd"),
        (b"A\xff", b"ee", "ee", "\ufffd\ufffd"),  # the tokenizer's decoder takes a run of bytes for text or for none
        (b"Ab", b"e", "e", "Ab"),
    ],
    ids=repr,
)
def test_a_prompt_is_not_told_again(shipped: Any, prompt: bytes, reply: bytes, text: str, echoed: str) -> None:
    ids = byte_ids(shipped, prompt)
    last = [
        int(shipped.convert_tokens_to_ids(chr(byte))) if byte < 0x80 else byte_ids(shipped, bytes([byte]))[0]
        for byte in reply
    ]
    assert generated(shipped, ids, last) == text
    assert Tokenizer(hugging_face=shipped).finished(ids) == echoed


def test_every_split_of_a_byte_level_text_is_whole_together() -> None:
    tokenizer = make_tokenizer("byte-level")
    text = "naïve café 日本語 is 😀 and € 5"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    for split in range(1, len(ids)):
        told = Tokenizer(hugging_face=tokenizer).finished(ids[:split])
        assert told + generated(tokenizer, ids[:split], ids[split:]) == text


def test_what_stands_before_an_unfinished_character_is_finished() -> None:
    pieces = {1: b"ab\xe2", 2: b"\x82", 3: b"\xac"}
    assert unfinished([1], pieces.__getitem__) == (1, "ab")
    assert unfinished([1, 2], pieces.__getitem__) == (2, "ab")
    assert unfinished([1, 2, 3], pieces.__getitem__) == (0, "")
