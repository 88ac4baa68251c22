from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from graft.training.rootstock.corpus import chat
from graft.training.rootstock.tokenizer import SPECIAL_TOKENS, VOCABULARY_SIZE, build_tokenizer

TOKENIZER = build_tokenizer(256)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_any_text_comes_back_exactly(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).filter(lambda text: "<|" not in text)
)
def test_printable_ascii_is_one_token_each(text: str) -> None:
    assert len(TOKENIZER(text)["input_ids"]) == len(text)


def test_other_characters_cost_their_utf8_bytes() -> None:
    assert [len(TOKENIZER(text)["input_ids"]) for text in ("é", "→", "😀", "\t")] == [2, 3, 4, 1]


def test_nothing_is_added_and_padding_is_not_the_end() -> None:
    assert TOKENIZER.decode(TOKENIZER("12")["input_ids"]) == "12"
    assert TOKENIZER.pad_token_id != TOKENIZER.eos_token_id
    assert len(TOKENIZER) == VOCABULARY_SIZE
    assert all(len(TOKENIZER(token)["input_ids"]) == 1 for token in SPECIAL_TOKENS)


def test_a_saved_tokenizer_is_the_same(tiny_base: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    loaded = AutoTokenizer.from_pretrained(tiny_base)
    text = "Grüße, 12+34?\n<|im_start|>"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.chat_template == tokenizer.chat_template


def test_the_corpus_renders_chats_as_the_template_does(tokenizer: PreTrainedTokenizerFast) -> None:
    exchanges = [("2+2?", "4"), ("And 3+3?", "6")]
    roles = [[("user", asked), ("assistant", answered)] for asked, answered in exchanges]
    messages = [{"role": role, "content": content} for pair in roles for role, content in pair]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == chat.render(exchanges)


def test_the_template_marks_answers_and_their_end(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    learned = [token for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(learned) == "yo<|im_end|>"


def test_chat_documents_are_whole_turns() -> None:
    for seed in range(50):
        document = chat.chat(Random(seed))
        assert document.count("<|im_start|>") == document.count("<|im_end|>")
        assert document.endswith("<|im_end|>\n")
