"""What a chat template reads beside the turns, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from graft.adapters.base.base import shipped_bases
from graft.adapters.chat.template import fault_of, variables_of
from graft.server.engine.engine import InvalidRequest
from graft.server.engine.tokenizer.tokenizer import Tokenizer
from tests.cases.harness.words import faults_of
from tests.training.chat_templates import STRICT, TEMPLATES
from tests.training.tokenizers_of import make_tokenizer

THINKING = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if enable_thinking is defined and enable_thinking %}<think>{% endif %}{{ bos_token }}{{ strftime_now('%Y') }}"
)


def test_variables_are_what_neither_the_request_nor_the_tokenizer_gives() -> None:
    assert variables_of(THINKING) == {"enable_thinking"}
    assert variables_of(
        "{% generation %}{{ a }}{%- endgeneration -%}{% for x in messages %}{% break %}{% endfor %}"
    ) == {"a"}
    assert variables_of("{% broken") == frozenset()
    assert fault_of("a\n{% broken") == "line 2: Encountered unknown tag 'broken'."
    assert fault_of("{{ 1 | nosuch }}") == "line 1: No filter named 'nosuch'."
    assert Tokenizer.from_folder(shipped_bases()["rootstock-5m"]).template_variables == frozenset()
    assert Tokenizer(hugging_face=make_tokenizer("byte-level")).template_variables is None


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_in_use_can_be_read(template: str) -> None:
    assert "messages" not in variables_of(TEMPLATES[template])
    assert fault_of(TEMPLATES[template]) is None


def test_variables_reach_the_template() -> None:
    tokenizer = Tokenizer(hugging_face=make_tokenizer("byte-level", template=THINKING))
    turns = [{"role": "user", "content": "x"}]
    plain, thinking = tokenizer.render_chat(turns), tokenizer.render_chat(turns, enable_thinking=True)
    assert "<think>" in tokenizer.spelled(thinking) and "<think>" not in tokenizer.spelled(plain)
    assert '"f"' in tokenizer.spelled(tokenizer.render_chat(turns, tools=[{"name": "f"}]))


def _within_itself(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ 10 // n }}", 0),
        ("{{ 10 % n }}", 0),
        ("{{ 2.0 ** n }}", 10**4),
        ("{{ range(n) | list }}", 10**9),
        ("{{ 'x' * n }}", 10**18),
        ("{{ {1: 2}.pop(n) }}", 5),
        ("{{ n.pop() }}", []),
        ("{{ n.a.b }}", 1),
        ("{{ n | tojson }}", _within_itself(990)),
        ("{{ n + 1 }}", "1"),
    ],
)
def test_what_a_template_cannot_reckon_with_is_the_callers(template: str, value: Any) -> None:
    tokenizer = Tokenizer(hugging_face=make_tokenizer("byte-level", template=template))
    with pytest.raises(InvalidRequest, match="refuses this chat: ") as caught:
        tokenizer.render_chat([{"role": "user", "content": "x"}], n=value)
    assert not faults_of(str(caught.value))


def test_what_the_template_raises_is_told_in_its_words() -> None:
    tokenizer = Tokenizer(hugging_face=make_tokenizer("byte-level", template=STRICT))
    with pytest.raises(InvalidRequest, match="refuses this chat: after a question comes an answer"):
        tokenizer.render_chat([{"role": "system", "content": "x"}])
