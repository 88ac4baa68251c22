"""Tools, calls and results in a prompt: by the template where it has words for them, as text where not."""

from __future__ import annotations

from typing import Any

import pytest

from graft.adapters.chat.shown import TemplateReads, as_rendered
from graft.adapters.chat.template import reads_of

FUNCTION = {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": FUNCTION}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "And in Oslo?"},
    {"role": "assistant", "content": "I look.", "tool_calls": [CALL, CALL]},
    {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "rain"},
    {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "sun"},
    {"role": "user", "content": "So?"},
]


def test_a_template_with_words_of_its_own_gets_them() -> None:
    reads = TemplateReads(tools=True, calls=True, results=True)
    turns, variables = as_rendered(TURNS, TOOLS, reads)
    assert turns == TURNS and variables == {"tools": TOOLS}


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
def test_a_template_without_is_given_text(system: list[dict[str, Any]]) -> None:
    turns, variables = as_rendered([*system, *TURNS], TOOLS, TemplateReads())
    assert variables == {} and [turn["role"] for turn in turns] == ["system", "user", "assistant", "user", "user"]
    assert turns[0]["content"].startswith("Be brief." if system else "# Tools")
    assert '{"type":"function","function":{"name":"weather","description":"Tells it."' in turns[0]["content"]
    one = '<tool_call>\n{"name":"weather","arguments":{"city":"Oslo"}}\n</tool_call>'
    assert turns[2] == {"role": "assistant", "content": f"I look.\n{one}\n{one}"}
    results = [f"<tool_response>\n{said}\n</tool_response>" for said in ("rain", "sun")]
    assert turns[3] == {"role": "user", "content": "\n".join(results)}
    assert turns[4] == TURNS[4]


def test_tools_that_may_not_be_called_are_shown_alone() -> None:
    turns, _ = as_rendered(TURNS[:1], TOOLS, TemplateReads(), callable_now=False)
    assert "weather" in turns[0]["content"] and "<tool_call>" not in turns[0]["content"]


def test_a_history_of_calls_is_shown_without_tools_too() -> None:
    turns, _ = as_rendered(TURNS, None, TemplateReads())
    assert "Oslo" in turns[1]["content"] and "rain" in turns[2]["content"] and turns[0] == TURNS[0]


QWEN = """{%- if tools %}{%- for tool in tools %}{{ tool | tojson }}{%- endfor %}{%- endif %}
{%- for message in messages %}{%- if message.role == "tool" %}{{ message.content }}
{%- elif message.tool_calls %}{%- for call in message.tool_calls %}{{ call.function.arguments | tojson }}{%- endfor %}
{%- else %}{{ message.content }}{%- endif %}{%- endfor %}"""


@pytest.mark.parametrize(
    ("template", "reads"),
    [
        (QWEN, TemplateReads(tools=True, calls=True, results=True)),
        ("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}", TemplateReads()),
        ("{% for m in messages %}{{ m['tool_calls'] }}{% endfor %}", TemplateReads(calls=True)),
        ("{% if", TemplateReads()),
    ],
)
def test_what_a_template_reads_stands_in_it(template: str, reads: TemplateReads) -> None:
    assert reads_of(template) == reads
