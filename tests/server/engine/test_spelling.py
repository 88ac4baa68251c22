"""What both doors send the engine, over every kind of tokenizer."""

from __future__ import annotations

import copy

import pytest

from graft.server.engine.tokenizer import Tokenizer
from graft.server.engine.vllm_spelling import spell_as_trained
from graft.training.corpus.encoding import RowEncoder
from graft.training.corpus.rows import Completion, Conversation, Turn
from tests.training.chat_templates import TEMPLATES
from tests.training.tokenizers_of import BEGIN, CONTROLS, END, KINDS, make_tokenizer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["ended", "bare", "opened reasoning"])
def test_both_doors_and_training_spell_a_chat_alike(kind: str, template: str) -> None:
    hugging_face = make_tokenizer(kind, pair=f"{BEGIN} $A {END}", template=TEMPLATES[template])
    engines = copy.copy(hugging_face)
    spell_as_trained(engines)
    asked = f"Say {' '.join(CONTROLS)} please"
    messages = [{"role": "user", "content": asked}]
    over_grpc = Tokenizer(hugging_face=hugging_face).render_chat(messages)
    text = engines.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, chat_template=None)
    over_http = engines(text, add_special_tokens=False, truncation=True, max_length=1000)["input_ids"]
    turns = (Turn(role="user", content=asked, is_learned=False), Turn(role="assistant", content="so", is_learned=True))
    (row,) = RowEncoder(hugging_face).examples(Conversation(turns=turns))
    assert over_grpc == over_http == list(row.input_ids[: list(row.supervised).index(True)])
    innocent = [{"role": "user", "content": "Say tags"}]
    plain = hugging_face.apply_chat_template(innocent, add_generation_prompt=True, return_dict=False)
    for name in CONTROLS:
        control = hugging_face.convert_tokens_to_ids(name)
        assert over_grpc.count(control) == plain.count(control), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["2+3=", f"{BEGIN}2+3=", "the "])
def test_both_doors_and_training_spell_a_raw_prompt_alike(kind: str, prompt: str) -> None:
    hugging_face = make_tokenizer(kind, pair=f"{BEGIN} $A {END}")
    engines = copy.copy(hugging_face)
    spell_as_trained(engines)
    over_grpc = Tokenizer(hugging_face=hugging_face).encode(prompt)
    (row,) = RowEncoder(hugging_face).examples(Completion(prompt=prompt, completion="5"))
    assert over_grpc == engines(prompt)["input_ids"] == list(row.input_ids[: list(row.supervised).index(True)])
    begin, end = (hugging_face.convert_tokens_to_ids(name) for name in (BEGIN, END))
    assert over_grpc.count(begin) == 1 and over_grpc[0] == begin and end not in over_grpc


def test_a_long_prompt_is_cut_where_vllm_asks_for_it() -> None:
    engines = make_tokenizer("byte-level")
    whole = engines("the quick brown fox")["input_ids"]
    spell_as_trained(engines)
    assert engines("the quick brown fox", truncation=True, max_length=3)["input_ids"] == whole[:3]
    assert engines("the quick brown fox", truncation=False, max_length=None)["input_ids"] == whole
    assert engines(["the", "fox"])["input_ids"] == [engines(one)["input_ids"] for one in ("the", "fox")]
