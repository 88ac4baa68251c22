"""Spelling text in which a control token's name is a word, too."""

import pytest
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from graft.adapters.text.spelling import Spelling

LETTERS = "abcdefghijklmnopqrstuvwxyz <>/_|"
MERGES = [("<", "/"), ("</", "s"), ("</s", ">"), ("</s>", "x")]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Its merges make the name of the end token, and go on from there; two added tokens are not special."""
    words = [*LETTERS, *(first + second for first, second in MERGES)]
    backend = Tokenizer(models.BPE(vocab={word: id for id, word in enumerate(words)}, merges=MERGES))
    backend.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
    backend.add_tokens([AddedToken(name, special=False, normalized=False) for name in ("<tool>", "<end>")])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


@pytest.mark.parametrize("name", ["</s>", "</s>x"])
def test_a_name_in_a_text_moves_no_other_token(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    spelling = Spelling(tokenizer)
    before, with_name = spelling.text("a<tool>b<end>"), spelling.text(f"a<tool>b<end>{name}")
    assert with_name[: len(before)] == before
    assert tokenizer.decode(with_name).replace(" ", "") == f"a<tool>b<end>{name}"


def test_a_name_that_merges_make_is_not_the_control_token(tokenizer: PreTrainedTokenizerFast) -> None:
    spelling = Spelling(tokenizer)
    assert tokenizer.eos_token_id not in spelling.text("a</s>b")
    assert tokenizer.eos_token_id not in spelling.answered("a", "</s>")[1]
    pieces = spelling.pieces("a</s>b<end>", [1, 5])
    assert tokenizer.eos_token_id not in pieces[1] and pieces[2][1:] == tokenizer.convert_tokens_to_ids(["<end>"])
    assert spelling.prompt("a</s>")[-1] == tokenizer.eos_token_id
