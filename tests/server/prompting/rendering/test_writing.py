"""Programs written out: where demonstrations stand, what a variable may hold, and what is a control token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from graft.adapters.base.base import shipped_bases
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from graft.server.errors import BadInput
from graft.server.prompting.program.program import PromptProgram
from graft.server.prompting.rendering.languages import Templates
from graft.server.prompting.rendering.process import TemplateProcess
from graft.server.prompting.rendering.writing import ControlTokens, draft
from tests.server.prompting.rendering.programs import MUSTACHE, REVIEWS, SENTIMENT, program
from tests.training.tokenizers_of import make_tokenizer


@pytest.fixture(scope="module")
async def templates() -> AsyncIterator[Templates]:
    process = TemplateProcess()
    await process.start()
    yield Templates(process)
    await process.close()


async def text_of(one: PromptProgram, shown: list[int], templates: Templates = MUSTACHE, **variables: Any) -> str:
    written = (await draft(one, variables, shown, templates)).written(shown)
    assert written.text is not None and not written.turns
    return written.text


async def turns_of(one: PromptProgram, shown: list[int], **variables: Any) -> list[tuple[str, str]]:
    written = (await draft(one, variables, shown, MUSTACHE)).written(shown)
    assert written.text is None
    return [(turn.role, turn.content) for turn in written.turns]


async def problems(one: PromptProgram, shown: list[int], **variables: Any) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as caught:
        await draft(one, variables, shown, MUSTACHE)
    return [(violation.field, violation.problem) for violation in caught.value.violations]


async def test_demonstrations_are_written_as_the_query_is() -> None:
    one = program(SENTIMENT, demonstrations=REVIEWS)
    assert await text_of(one, [2, 0], review="Bad.") == (
        "Is it good?\n\nReview: Fine.\nAnswer: yes\nReview: Lovely.\nAnswer: yes\nReview: Bad.\nAnswer:"
    )
    assert await text_of(one, [], review="Bad.") == "Is it good?\n\nReview: Bad.\nAnswer:"


async def test_how_they_are_written_can_be_said() -> None:
    how = {"prompt": "Q: {{review}}", "answer": "<{{output}}>", "before_answer": "\nA: ", "separator": "\n\n"}
    one = program(SENTIMENT, demonstrations=REVIEWS, demonstrating=how)
    expected = "Is it good?\n\nQ: Dull.\nA: <no>\n\nReview: x\nAnswer:"
    assert await text_of(one, [1], review="x") == expected


@pytest.mark.parametrize(("method", "answer"), [("chain_of_thought", "It is.\nyes"), ("direct", "yes")])
async def test_rationales_are_shown_where_there_is_reasoning(method: str, answer: str) -> None:
    shown = [{"inputs": {"q": "a"}, "output": "yes", "rationale": "It is."}, {"inputs": {"q": "b"}, "output": "no"}]
    one = program("{{demonstrations}}{{q}} =>", demonstrations=shown, reasoning={"method": method})
    assert await text_of(one, [0, 1], q="c") == f"a => {answer}\nb => no\nc =>"


async def test_in_a_chat_they_are_turns_before_the_last_of_the_user() -> None:
    chat = [
        {"role": "developer", "content": "Be {{how}}."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Is {{review}} good?"},
    ]
    one = program(chat, demonstrations=REVIEWS)
    assert await turns_of(one, [1], review="x", how="brief") == [
        ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"),
        ("user", "Is Dull. good?"), ("assistant", "no"), ("user", "Is x good?"),
    ]  # fmt: skip
    placed = [chat[0], {"type": "placeholder", "name": "demonstrations"}, *chat[1:]]
    assert (await turns_of(program(placed, demonstrations=REVIEWS), [1], review="x", how="brief"))[1:3] == [
        ("user", "Is Dull. good?"),
        ("assistant", "no"),
    ]


async def test_a_placeholder_takes_turns() -> None:
    one = program([{"type": "placeholder", "name": "history"}, {"role": "user", "content": "{{q}}"}])
    history = [{"role": "user", "content": "{{q}}"}, {"role": "assistant", "content": "b"}]
    assert await turns_of(one, [], q="c", history=history) == [("user", "{{q}}"), ("assistant", "b"), ("user", "c")]
    wizard = [{"role": "wizard", "content": "x"}, {"role": "user"}, "x", {"role": "user", "content": "x", "name": "y"}]
    fields = [field for field, _ in await problems(one, [], q="c", history=wizard)]
    assert fields == ["variables.history[0].role", *(f"variables.history[{index}]" for index in (1, 2, 3))]
    assert (await problems(one, [], q="c"))[0][1].startswith("is missing: it must be a list of turns")


async def test_unknown_variables_are_all_named() -> None:
    one = program("{{a}} {{b}}")
    told = await problems(one, [], a="x", c="y", d="z")
    assert [field for field, _ in told] == ["variables.c", "variables.d"] and "it reads a, b" in told[0][1]
    assert (await problems(program("x"), [], a="x"))[0][1].endswith("it reads none")
    assert [field for field, _ in await problems(one, [], a=[])] == ["variables.a", "variables.b"]


async def test_sources_are_given_by_the_server() -> None:
    one = program("{{sources}}\n{{q}}", sourcing={})
    written = (await draft(one, {"q": "?"}, [], MUSTACHE, sources="[1] {{q}}")).written([])
    assert written.text == "[1] {{q}}\n?"
    assert [field for field, _ in await problems(one, [], q="?", sources="mine")] == ["variables.sources"]


async def test_jinja_programs_are_written_alike(templates: Templates) -> None:
    prompt = (
        "Rate {{ kinds | join('/') }}.\n{{ demonstrations }}\n{% if review %}Review: {{ review }}{% endif %}\nAnswer:"
    )
    one = program(prompt, template_format="jinja2", demonstrations=REVIEWS)
    assert await text_of(one, [1], templates, review="{{ x }}", kinds=["a", "b"]) == (
        "Rate a/b.\nReview: Dull.\nAnswer: no\nReview: {{ x }}\nAnswer:"
    )
    with pytest.raises(BadInput, match="'review' is undefined"):
        await text_of(one, [], templates, kinds=[])


@pytest.mark.parametrize("form", ["mustache", "jinja2"])
async def test_control_tokens_count_where_the_program_writes_them(templates: Templates, form: str) -> None:
    """A name in a value, or one that two values make together, is text."""
    tokenizer = Tokenizer.from_folder(shipped_bases()["rootstock-5m"])
    name = next(iter(tokenizer._spelling._controls))
    control = tokenizer._spelling._controls[name]
    controls = ControlTokens(claimed=tokenizer.claimed, settled=tokenizer.settled, unmarked=tokenizer.unmarked)
    one = program(f"{name}{{{{a}}}}{{{{b}}}}{{{{demonstrations}}}}", template_format=form, demonstrations=[
        {"inputs": {"a": name, "b": "x"}, "output": name}
    ], demonstrating={"prompt": "{{a}}{{b}}"})  # fmt: skip
    values = {"a": f"{name} {name[:3]}", "b": name[3:]}
    made = await draft(one, values, [0], templates, controls=controls)
    written = made.written([0])
    assert written.text is not None
    ids = tokenizer.encode_marked(written.text)
    assert ids.count(control) == tokenizer.encode(name).count(control)
    assert tokenizer.unmarked(written.text) == f"{name}{name} {name}{name}x {name}\n"
    assert "".join(made.shown(turn.content) for turn in made.turns([0])).count(name) >= 3


async def test_marking_changes_no_other_prompt() -> None:
    tokenizer = Tokenizer(hugging_face=make_tokenizer("byte-level"))
    for text in ("", "Hello  world\n", "<abc.0>", "ä<x>"):
        assert tokenizer.encode_marked(tokenizer.settled(text)) == tokenizer.encode(text)
