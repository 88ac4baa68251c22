"""Rows of tokens: those of the tokenizer that is saved with the model."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from graft.training.tasks.framing.frame import Frame
from tests.training.tasks.bases import tokenizer_of, with_frame

PAIRS = {
    "bert": ("<s> $A </s>", "<s> $A </s> $B:1 </s>:1"),
    "roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
    "t5": ("$A </s>", "$A </s> $B </s>"),
}
TEXTS = ("good film", "was it </s> bad <mask>?")


def spelled_out(tokenizer: PreTrainedTokenizerFast, *texts: str) -> tuple[list[int], list[int]]:
    found = tokenizer(*texts, split_special_tokens=True, return_token_type_ids=True)
    return found["input_ids"], found["token_type_ids"]


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("has_own", [True, False])
def test_a_frame_is_the_tokenizers(tmp_path: Path, kind: str, has_own: bool) -> None:
    """Its own, or one that is given to it: as Hugging Face reads it back."""
    config = AutoConfig.for_model(kind, type_vocab_size=2 if kind == "bert" else 1)
    tokenizer = with_frame(tokenizer_of(), *PAIRS[kind]) if has_own else tokenizer_of()
    frame = Frame.of(tokenizer, config)
    frame.write_into(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    single = frame.single(frame.text(TEXTS[1]))
    pair = frame.pair(*map(frame.text, TEXTS))
    assert (single.ids, single.types) == spelled_out(saved, TEXTS[1])
    assert (pair.ids, pair.types) == spelled_out(saved, *TEXTS)
    assert pair.ids[pair.second : pair.second + 1] == frame.text(TEXTS[1])[:1]
    assert len(pair.ids) == sum(len(frame.text(one)) for one in TEXTS) + frame.num_added(is_pair=True)
    assert ("token_type_ids" in saved("a", "b")) == (kind == "bert")  # unasked
    control = set(tokenizer.convert_tokens_to_ids(["<mask>"]))
    assert control.isdisjoint(pair.ids)  # what a text says is no control token
    if not has_own and kind == "bert":
        assert pair.types[-1] == 1 and pair.ids[0] == 0 and pair.ids[-1] == 2


def test_a_decoder_reads_a_pair_as_the_text_that_a_server_is_sent() -> None:
    tokenizer = tokenizer_of()
    frame = Frame.of(tokenizer, AutoConfig.for_model("llama"))
    assert frame.joint == "\n" and frame.num_added(is_pair=True) == 0
    assert frame.single(frame.text("good\nbad")).ids == tokenizer("good\nbad")["input_ids"]


def test_a_decoder_with_delimiters(tmp_path: Path) -> None:
    """Radford et al. 2018, figure 1."""
    tokenizer = tokenizer_of()
    frame = Frame.of(tokenizer, AutoConfig.for_model("gpt2")).delimited(tokenizer)
    frame.write_into(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    found = AutoTokenizer.from_pretrained(tmp_path)("good film", "bad")["input_ids"]
    assert frame.pair(frame.text("good film"), frame.text("bad")).ids == found
    names = tokenizer.convert_ids_to_tokens(found)
    assert names[0] == "[START]" and names[-1] == "[EXTRACT]" and names.count("[DELIMITER]") == 1


def test_padding_is_nothing_that_a_row_ends_in() -> None:
    """A decoder's head is asked at the last token that is no padding."""
    tokenizer = with_frame(tokenizer_of(), "<s> $A </s>", "<s> $A $B </s>")
    tokenizer.pad_token = "</s>"
    with pytest.raises(ValueError, match="set its pad_token"):
        Frame.of(tokenizer, AutoConfig.for_model("llama"))
