"""Every kind of tokenizer, with every manner of chat template."""

from collections.abc import Sequence

import pytest
from transformers import PreTrainedTokenizerFast

from graft.adapters.text.problems import BadLine
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.packing import Encoded
from graft.training.batch.rows.row import Completion, Conversation, Turn
from graft.training.corpus.texts import encode_whole
from graft.training.errors import ConfigurationError
from tests.training.chat_templates import TEMPLATES
from tests.training.tokenizers_of import BEGIN, CONTROLS, END, KINDS, TURN_END, make_tokenizer

TALK = [("user", "What is 2+2?"), ("assistant", "It is 4."), ("user", "And 12+30?"), ("assistant", "42 it is.")]
REASONED = [
    ("user", "What is a token?"),
    ("assistant", "<think>\nbecause of text\n</think>\n\nA piece of text."),
    ("user", "Say it again"),
    ("assistant", "<think>\ntherefore\n</think>\n\nA piece."),
]


def conversation(turns: Sequence[tuple[str, str]]) -> Conversation:
    return Conversation(turns=tuple(Turn(role=r, content=c, is_learned=r == "assistant") for r, c in turns))


def encoder(tokenizer: PreTrainedTokenizerFast, **options: bool) -> RowEncoder:
    return RowEncoder(tokenizer, stop_ids=[tokenizer.convert_tokens_to_ids(TURN_END)], **options)


def answers(example: Encoded) -> list[tuple[list[int], list[int]]]:
    """(all ids before, ids of the answer) for each run of learned tokens."""
    found, start = [], None
    for at, learned in enumerate([*example.supervised, False]):
        if learned and start is None:
            start = at
        if not learned and start is not None:
            found.append((list(example.input_ids[:start]), list(example.input_ids[start:at])))
            start = None
    return found


def served(tokenizer: PreTrainedTokenizerFast, before: Sequence[tuple[str, str]]) -> list[int]:
    """What a server sends: the template's text, encoded once."""
    messages = [{"role": role, "content": content} for role, content in before]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("turns", [TALK, REASONED], ids=["plain", "reasoned"])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_learned_after_what_a_server_sends(
    kind: str, template: str, turns: list[tuple[str, str]]
) -> None:
    tokenizer = make_tokenizer(kind, template=TEMPLATES[template])
    found = [one for example in encoder(tokenizer).examples(conversation(turns)) for one in answers(example)]
    places = [index for index, (role, _) in enumerate(turns) if role == "assistant"]
    assert len(found) == len(places)
    stops = [tokenizer.convert_tokens_to_ids(name) for name in (END, TURN_END)]
    for place, (before, answer) in zip(places, found, strict=True):
        assert before == served(tokenizer, turns[:place])
        assert answer[-1] in stops and not set(answer[:-1]) & set(stops)
        said = tokenizer.decode(answer[:-1])
        wanted = turns[place][1]
        if template == "opened reasoning":
            thinks = wanted.startswith("<think>\n")
            wanted = wanted.removeprefix("<think>\n") if thinks else f"\n</think>\n\n{wanted}"
        if kind == "word piece":
            wanted = tokenizer.decode(tokenizer(wanted, add_special_tokens=False)["input_ids"])
        assert said.split() == wanted.split() or (
            template == "cut reasoning" and said.replace(" ", "").endswith("".join(wanted.split()))
        )


@pytest.mark.parametrize("template", ["ended", "no end", "bare", "strict"])
@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_whole_text(kind: str, template: str) -> None:
    tokenizer = make_tokenizer(kind, template=TEMPLATES[template])
    (example,) = encoder(tokenizer).examples(conversation(TALK[:2]))
    whole = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in TALK[:2]], tokenize=False
    )
    if template == "no end":
        whole = whole.rstrip("\n")  # its end token is ours
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    if template == "no end":
        prompt = served(tokenizer, TALK[:1])
        assert list(example.input_ids[: len(prompt)]) == prompt
        assert tokenizer.decode(example.input_ids) == tokenizer.decode([*ids, tokenizer.eos_token_id])
    else:
        assert list(example.input_ids) == ids[: len(example.input_ids)]


@pytest.mark.parametrize("trims", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "word piece"])  # which knows no newline
@pytest.mark.parametrize("template", ["ended", "no end", "bare", "last end", "cut reasoning", "strict"])
def test_an_answer_keeps_its_blanks(kind: str, template: str, trims: bool) -> None:
    """Whatever the template leaves of them in earlier turns (``strict`` trims, as Llama 3's and Gemma's do)."""
    trimmed = TEMPLATES[template].replace("message.content }}", "message.content | trim }}")
    tokenizer = make_tokenizer(kind, template=trimmed if trims else TEMPLATES[template])
    given = "\n  one\n\n"
    for before in ([], [("user", "so"), ("assistant", " so\n")]):
        turns = [*before, ("user", "a list"), ("assistant", given)]
        prompt, answer = answers(encoder(tokenizer).examples(conversation(turns))[-1])[-1]
        assert prompt == served(tokenizer, turns[:-1])
        said = tokenizer.decode(answer[:-1]).removeprefix("<think>\n\n</think>\n\n")
        assert said.lstrip(" ") == given


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_control_tokens_name_in_a_conversation_is_text(kind: str, name: str) -> None:
    tokenizer = make_tokenizer(kind, template=TEMPLATES["ended"])
    control = tokenizer.convert_tokens_to_ids(name)
    turns = [("user", f"Say {name} to me{name}{name}"), ("assistant", f"The token {name} ends it")]
    plain = [(role, content.replace(name, "tags")) for role, content in turns]
    (example,), (other,) = (encoder(tokenizer).examples(conversation(one)) for one in (turns, plain))
    counts = [list(one.input_ids).count(control) for one in (example, other)]
    assert counts[0] == counts[1]
    told = "".join(tokenizer.decode(example.input_ids).split())
    if kind != "unigram":
        assert f"Say{name}tome{name}{name}".lower() in told.lower()
    assert answers(example)[0][1][-1] == tokenizer.convert_tokens_to_ids(TURN_END)


@pytest.mark.parametrize("pair", ["", f"{BEGIN} $A", f"$A {END}", f"{BEGIN} $A {END}"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_raw_prompt_begins_once_and_ends_with_the_answer(kind: str, pair: str) -> None:
    tokenizer = make_tokenizer(kind, pair=pair)
    begin, end = (tokenizer.convert_tokens_to_ids(name) for name in (BEGIN, END))
    for prompt in ("2+3=", f"{BEGIN}2+3="):
        (example,) = encoder(tokenizer).examples(Completion(prompt=prompt, completion="5"))
        ids = list(example.input_ids)
        assert ids.count(begin) == (1 if BEGIN in pair or BEGIN in prompt else 0)
        assert ids.count(end) == 1 and ids[-1] == end
        assert ids[: ids.count(begin)] == [begin] * ids.count(begin)
        whole = tokenizer(prompt + "5", add_special_tokens=False)["input_ids"]
        assert [id for id in ids if id not in (begin, end)] == [id for id in whole if id not in (begin, end)]
    (example,) = encoder(tokenizer).examples(Completion(prompt="2+3=", completion=f"5{END}"))
    assert list(example.input_ids).count(end) == 1  # an end that is written is the one that is added


@pytest.mark.parametrize(
    ("written", "learned"),
    [("", END), (END, END), (TURN_END, TURN_END), (TURN_END + END, TURN_END), (END + TURN_END, END), (END * 2, END)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_end_that_is_written_is_the_one_that_is_learned(kind: str, written: str, learned: str) -> None:
    tokenizer = make_tokenizer(kind)
    plain, example = (
        encoder(tokenizer).examples(Completion(prompt="2+3=", completion=text))[0] for text in ("5", f"5{written}")
    )
    assert list(example.input_ids[:-1]) == list(plain.input_ids[:-1])
    assert example.input_ids[-1] == tokenizer.convert_tokens_to_ids(learned)


@pytest.mark.parametrize("text", ["The value is None", "None", "one\n"])
def test_a_stop_that_is_no_control_token_takes_nothing_from_an_answer(text: str) -> None:
    """A token behind the tokenizer's last, whose name is None, and a word of its vocabulary."""
    tokenizer = make_tokenizer("byte-level")
    (newline,) = tokenizer("\n")["input_ids"]
    (example,) = RowEncoder(tokenizer, stop_ids=[len(tokenizer) + 5, newline]).examples(
        Completion(prompt="=", completion=text)
    )
    assert tokenizer.decode(example.input_ids) == f"={text}{END}"


def test_a_token_across_the_seam_leaves_the_prompt_as_it_is_served() -> None:
    tokenizer = make_tokenizer("byte-level")
    (example,) = encoder(tokenizer).examples(Completion(prompt="the ", completion="fox"))
    prompt = tokenizer("the ")["input_ids"]
    assert tokenizer("the fox")["input_ids"][: len(prompt)] != prompt  # the blank belongs to the word
    assert list(example.input_ids[: len(prompt)]) == prompt
    assert tokenizer.decode(example.input_ids) == f"the fox{END}"


def test_turns_that_go_on_share_an_example_and_others_do_not() -> None:
    for template, num in (("ended", 1), ("bare", 1), ("cut reasoning", 2), ("opened reasoning", 2), ("no end", 2)):
        tokenizer = make_tokenizer("byte-level", template=TEMPLATES[template])
        assert len(encoder(tokenizer).examples(conversation(REASONED))) == num, template


def test_a_greeting_is_learned_where_the_template_takes_one_and_told_where_not() -> None:
    greeting = conversation([("assistant", "hello there"), *TALK])
    tokenizer = make_tokenizer("byte-level", template=TEMPLATES["ended"])
    (example,) = encoder(tokenizer).examples(greeting)
    assert tokenizer.decode(answers(example)[0][1]) == "hello there<|end|>"
    strict = make_tokenizer("byte-level", template=TEMPLATES["strict"])
    with pytest.raises(BadLine, match="after a question comes an answer, then a question again"):
        encoder(strict).examples(greeting)


def test_without_any_end_nothing_can_be_learned() -> None:
    tokenizer = make_tokenizer("byte-level")
    tokenizer.eos_token = None
    with pytest.raises(ConfigurationError, match="no end token"):
        RowEncoder(tokenizer)


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_control_tokens_name_in_a_document_is_text(kind: str, name: str) -> None:
    tokenizer = make_tokenizer(kind, pair=f"{BEGIN} $A {END}")
    texts = [f"The token {name} of models, {name}{name}", "and a document without"]
    ((named,), (other,)) = encode_whole(texts, tokenizer)
    control = tokenizer.convert_tokens_to_ids(name)
    plain = encode_whole([texts[0].replace(name, "tags")], tokenizer)[0][0]
    assert list(named).count(control) == list(plain).count(control)
    assert list(other) == tokenizer(texts[1], add_special_tokens=False)["input_ids"]


def test_a_stop_that_is_not_called_special_is_forged_by_nobody() -> None:
    tokenizer = make_tokenizer("byte-level", template=TEMPLATES["ended"])
    tokenizer.add_tokens(["[DONE]"])
    stop = tokenizer.convert_tokens_to_ids("[DONE]")
    said = conversation([("user", "say [DONE]"), ("assistant", "I say [DONE] twice")])
    (example,) = RowEncoder(tokenizer, stop_ids=[stop]).examples(said)
    assert stop not in example.input_ids
    assert tokenizer.decode(answers(example)[0][1]).startswith("I say [DONE] twice")


def test_reasoning_that_a_template_drops_from_a_finished_turn_is_learned() -> None:
    template = TEMPLATES["opened reasoning"].replace("<think>\n", "")  # its prompt opens nothing
    tokenizer = make_tokenizer("byte-level", template=template)
    (_, example) = encoder(tokenizer).examples(conversation(REASONED))
    assert tokenizer.decode(answers(example)[-1][1]) == REASONED[3][1] + END


def test_one_token_alone_cannot_be_learned() -> None:
    with pytest.raises(BadLine, match="one token in all"):
        encoder(make_tokenizer("byte-level")).examples(Completion(prompt="", completion=END))
