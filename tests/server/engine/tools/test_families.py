"""Which parsers a chat template calls for."""

from __future__ import annotations

import pytest

from graft.server.engine.tools.families import Parsers, parsers_for


# The marks as they stand in the families' published templates.
@pytest.mark.parametrize(
    ("template", "tool", "reasoning"),
    [
        ("{{ '<|im_start|>' + message['content'] }}", None, None),
        ('<tools></tools> <tool_call>\n{"name": <function-name>}', None, None),
        ("<tool_call> {% if enable_thinking is false %}<think>\n\n</think>{% endif %}", None, "qwen3"),
        ("<tool_call>\n<function=example>\n<parameter=a>", "qwen3_coder", None),
        ("<tool_call>{name}\n<arg_key>{k}</arg_key> <think></think>", "glm45", "glm45"),
        ("{{ '[TOOL_CALLS] [' }}", "mistral", None),
        ("<|start_header_id|>ipython <|python_tag|>", "llama3_json", None),
        ("<｜Assistant｜> {{ content.split('</think>') }} <｜tool▁calls▁begin｜>", "deepseek_v3", "deepseek_r1"),
        ("<|start|>assistant<|channel|>analysis<|message|>", "openai", "openai_gptoss"),
        ("<|tool_calls_section_begin|>", "kimi_k2", None),
        ("<seed:think> <seed:tool_call>", "seed_oss", "seed_oss"),
    ],
)
def test_the_family_is_told_by_its_marks(template: str, tool: str | None, reasoning: str | None) -> None:
    assert parsers_for(template) == Parsers(tool=tool, reasoning=reasoning)


def test_names_override() -> None:
    assert parsers_for("[TOOL_CALLS]", tool="hermes", reasoning="qwen3") == Parsers(tool=None, reasoning="qwen3")
    assert parsers_for("<think></think>", reasoning="none") == Parsers()
