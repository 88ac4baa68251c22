"""What serving sends the engine, through whichever door, over every kind of tokenizer."""

from __future__ import annotations

import pytest

from graft.adapters.base.base import shipped_bases
from graft.server.engine.text import Text
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.rows.row import Completion, Conversation, Turn
from tests.training.chat_templates import TEMPLATES
from tests.training.tokenizers_of import BEGIN, CONTROLS, END, KINDS, make_tokenizer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["ended", "bare", "opened reasoning"])
def test_serving_and_training_spell_a_chat_alike(kind: str, template: str) -> None:
    hugging_face = make_tokenizer(kind, pair=f"{BEGIN} $A {END}", template=TEMPLATES[template])
    asked = f"Say {' '.join(CONTROLS)} please"
    messages = [{"role": "user", "content": asked}]
    served = Tokenizer(hugging_face=hugging_face).render_chat(messages)
    turns = (Turn(role="user", content=asked, is_learned=False), Turn(role="assistant", content="so", is_learned=True))
    (row,) = RowEncoder(hugging_face).examples(Conversation(turns=turns))
    assert served == list(row.input_ids[: list(row.supervised).index(True)])
    innocent = [{"role": "user", "content": "Say tags"}]
    plain = hugging_face.apply_chat_template(innocent, add_generation_prompt=True, return_dict=False)
    for name in CONTROLS:
        control = hugging_face.convert_tokens_to_ids(name)
        assert served.count(control) == plain.count(control), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TEMPLATES)
async def test_a_grader_and_a_training_read_an_answered_chat_alike(kind: str, template: str) -> None:
    hugging_face = make_tokenizer(kind, pair=f"{BEGIN} $A {END}", template=TEMPLATES[template])
    text = Text(Tokenizer(hugging_face=hugging_face), vocab_size=len(hugging_face), max_model_tokens=1000)
    asked = [{"role": "user", "content": "Say it"}]
    for answer in ("so", f"so {CONTROLS[0]} it", "it is so"):
        read = await text.render_answered(asked, answer, field="item.messages")
        turns = [Turn(role="user", content="Say it", is_learned=False)]
        row = Conversation(turns=(*turns, Turn(role="assistant", content=answer, is_learned=True)))
        (learned,) = RowEncoder(hugging_face).examples(row)
        assert read == list(learned.input_ids), answer


async def test_what_a_template_writes_behind_an_answers_end_is_not_read() -> None:
    """As of the shipped base: a line's end."""
    folder = shipped_bases()["rootstock-5m"]
    tokenizer = Tokenizer.from_folder(folder)
    text = Text(tokenizer, vocab_size=8192, max_model_tokens=1000)
    asked = [{"role": "user", "content": "Say it"}]
    read = await text.render_answered(asked, "so", field="item.messages")
    assert tokenizer.spelled(read) == "<|im_start|>user\nSay it<|im_end|>\n<|im_start|>assistant\nso<|im_end|>"
    opened = tokenizer.render_chat(asked)
    assert read[: len(opened)] == opened


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["2+3=", f"{BEGIN}2+3=", "the "])
def test_serving_and_training_spell_a_raw_prompt_alike(kind: str, prompt: str) -> None:
    hugging_face = make_tokenizer(kind, pair=f"{BEGIN} $A {END}")
    served = Tokenizer(hugging_face=hugging_face).encode(prompt)
    (row,) = RowEncoder(hugging_face).examples(Completion(prompt=prompt, completion="5"))
    assert served == list(row.input_ids[: list(row.supervised).index(True)])
    begin, end = (hugging_face.convert_tokens_to_ids(name) for name in (BEGIN, END))
    assert served.count(begin) == 1 and served[0] == begin and end not in served


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_prompts_template_and_its_values_only_the_templates_control_tokens_count(kind: str) -> None:
    """Also where two values, or the template and a value, make a name together."""
    hugging_face = make_tokenizer(kind, pair=f"{BEGIN} $A {END}")
    tokenizer = Tokenizer(hugging_face=hugging_face)
    for name in CONTROLS:
        value = f"{name} {name[:2]}"
        made = tokenizer.claimed(f"{name}?{value[:0]}") + value + name[2:]
        served = tokenizer.encode_marked(tokenizer.settled(made))
        control = hugging_face.convert_tokens_to_ids(name)
        extra = 1 if name == BEGIN else 0  # the tokenizer's own, where the text does not begin with it already
        assert served.count(control) - 1 in (0, extra), (name, served)
        assert tokenizer.unmarked(tokenizer.settled(made)) == f"{name}?{name} {name}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["2+3=", "the ", "", "a\n\nb {{c}} <x.1>"])
def test_a_prompt_that_names_no_control_token_is_spelled_as_any_other(kind: str, text: str) -> None:
    tokenizer = Tokenizer(hugging_face=make_tokenizer(kind, pair=f"{BEGIN} $A {END}"))
    assert tokenizer.encode_marked(tokenizer.settled(tokenizer.claimed(text))) == tokenizer.encode(text)
