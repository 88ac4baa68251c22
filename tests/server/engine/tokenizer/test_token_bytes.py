"""What tokens stand for, and what of it log-probabilities show."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from graft.adapters.base.base import shipped_bases
from graft.server.engine.tokenizer.token_bytes import TokenBytes, spelled
from graft.server.engine.vllm.logprobs import Offsets, chat_logprobs, completion_logprobs
from tests.training.tokenizers_of import BEGIN, KINDS, make_tokenizer

TEXTS = ["2+2=4, says the quick fox", "Say it again: hello there", "What is a token?"]
BEYOND = ["naïve café", "€ 5", "日本語 is 😀", "\u2028\x85\x00"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("word piece", "unigram")])
def test_bytes_of_all_tokens_are_the_text(kind: str) -> None:
    """A word piece does not know its blanks, and NFKC changes texts before they are tokens."""
    tokenizer = make_tokenizer(kind)
    bytes_of = TokenBytes(tokenizer)
    for text in TEXTS + (BEYOND if kind == "byte-level" else []):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert b"".join(map(bytes_of, ids)).removeprefix(b" ") == text.encode()


def test_bytes_of_the_shipped_bases_tokens_are_the_text() -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(shipped_bases()["rootstock-5m"]))
    bytes_of = TokenBytes(tokenizer)
    for text in TEXTS + BEYOND:
        assert b"".join(map(bytes_of, tokenizer(text)["input_ids"])) == text.encode()
    assert bytes_of(tokenizer.convert_tokens_to_ids("<0x6E>")) == b"n" == bytes_of(tokenizer("n")["input_ids"][0])
    assert bytes_of(10**6) == b""


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_of_every_kind_has_bytes(kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    bytes_of = TokenBytes(tokenizer)
    assert all(bytes_of(token_id) for token_id in range(len(tokenizer)) if token_id not in tokenizer.all_special_ids)
    assert bytes_of(tokenizer.convert_tokens_to_ids(BEGIN)) == BEGIN.encode()


def test_bytes_that_are_no_text_are_written_as_openai_does() -> None:
    assert [spelled(data) for data in (b"n", "€".encode(), b"\xe2\x82", b"")] == ["n", "€", r"\xe2\x82", ""]


def entry(rank: int, logprob: float) -> SimpleNamespace:
    return SimpleNamespace(rank=rank, logprob=logprob)


# Ids 1 and 2 are the same letter, 3 is a part of a character.
BYTES = {1: b"n", 2: b"n", 3: b"\xe2", 4: b"m"}
FOUND = {2: entry(2, -0.7), 1: entry(1, -0.6), 3: entry(3, -4.0), 4: entry(9, float("-inf"))}


def test_no_entry_is_lost_and_the_chosen_ones_value_is_its_own() -> None:
    logprobs = completion_logprobs([2, 3], [FOUND, None], BYTES.__getitem__)  # type: ignore[arg-type]
    assert logprobs.tokens == ["n", r"bytes:\xe2"]
    assert logprobs.token_logprobs == [-0.7, None]
    assert logprobs.top_logprobs == [{"n": -0.7, "token_id:1": -0.6, r"bytes:\xe2": -4.0, "m": -9999.0}, None]


def test_a_chats_likeliest_are_the_likeliest() -> None:
    (one,) = chat_logprobs([4], [FOUND], 2, BYTES.__getitem__).content or ()  # type: ignore[arg-type]
    assert (one.token, one.bytes, one.logprob) == ("m", [109], -9999.0)
    assert [(top.token, top.bytes, top.logprob) for top in one.top_logprobs] == [("n", [110], -0.6), ("n", [110], -0.7)]


def test_offsets_count_characters_through_split_ones_and_chunks() -> None:
    offsets = Offsets()
    assert offsets.of(["a", r"bytes:\xe2", r"bytes:\x82"]) == [0, 1, 1]
    assert offsets.of([r"bytes:\xac", "bc", "d"]) == [1, 2, 4]
