"""What a chat template reads beside the turns, and what it refuses."""

from __future__ import annotations

import pytest

from graft.adapters.base import shipped_bases
from graft.server.engine.chat_template import fault_of, variables_of
from graft.server.engine.engine import InvalidRequest
from graft.server.engine.tokenizer import Tokenizer
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
    assert "<think>" in tokenizer.decode(thinking) and "<think>" not in tokenizer.decode(plain)
    assert '"f"' in tokenizer.decode(tokenizer.render_chat(turns, tools=[{"name": "f"}]))


def test_what_the_template_raises_is_told_in_its_words() -> None:
    tokenizer = Tokenizer(hugging_face=make_tokenizer("byte-level", template=STRICT))
    with pytest.raises(InvalidRequest, match="refuses this chat: after a question comes an answer"):
        tokenizer.render_chat([{"role": "system", "content": "x"}])
