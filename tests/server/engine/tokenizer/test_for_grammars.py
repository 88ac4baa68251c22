"""A tokenizer that llguidance cannot read says the same, token by token, as one that it can."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import llguidance
import pytest
from transformers import AutoTokenizer

from graft.adapters.base.base import shipped_bases
from graft.server.engine.tokenizer.for_grammars import grammar_tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True}


@pytest.fixture
def unread(tmp_path: Path) -> Path:
    """The shipped base's tokenizer, with a decoder that llguidance does not know."""
    for name in FILES:
        if (file := shipped_bases()["rootstock-5m"] / name).exists():
            shutil.copy(file, tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "decoder": METASPACE}))
    return tmp_path


def test_both_ways_give_the_same_tokens(unread: Path) -> None:
    plain = AutoTokenizer.from_pretrained(shipped_bases()["rootstock-5m"])
    other = AutoTokenizer.from_pretrained(unread)
    with pytest.raises(ValueError, match="decoder"):
        llguidance.LLTokenizer(other.backend_tokenizer.to_str())
    read, given = grammar_tokenizer(plain), grammar_tokenizer(other)
    # Bytes are spelled by the plain one's decoder alone: `<0x0A>` is text to the other.
    letters = [id for id, token in enumerate(plain.convert_ids_to_tokens(list(range(len(plain))))) if len(token) == 1]
    assert len(letters) > 90
    assert [given.decode_bytes([id]) for id in letters] == [read.decode_bytes([id]) for id in letters]
    assert given.eos_token == read.eos_token and given.vocab_size == read.vocab_size


def test_a_grammar_holds_over_it(unread: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(unread)
    matcher = llguidance.LLMatcher(grammar_tokenizer(tokenizer), llguidance.LLMatcher.grammar_from_regex("[0-9]{2}"))
    for token, allowed in (("a", False), ("7", True), ("1", True)):
        assert (matcher.try_consume_tokens(tokenizer.convert_tokens_to_ids([token])) == 1) == allowed
    assert matcher.is_accepting() and not matcher.is_error()
