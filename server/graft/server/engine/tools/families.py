"""Which of vLLM's parsers reads the calls and the reasoning of a model family, by what its chat template writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OWN_TOOL_PARSER = "hermes"
"""The form that is read here, without vLLM: the family's own, or the one that is shown where a template has none."""

# A row fits where each of its marks stands in the template; the first that fits is taken, so the narrower come first.
_TOOL_MARKS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("openai", ("<|channel|>", "<|start|>")),
    ("kimi_k2", ("<|tool_calls_section_begin|>",)),
    ("deepseek_v32", ("<｜DSML｜",)),
    ("deepseek_v31", ("<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>", "thinking")),
    ("deepseek_v3", ("<｜tool▁calls▁begin｜>",)),
    ("minimax_m2", ("<minimax:tool_call>",)),
    ("seed_oss", ("<seed:tool_call>",)),
    ("longcat", ("<longcat_tool_call>",)),
    ("gemma4", ("<|tool_call>",)),
    ("functiongemma", ("<start_function_call>",)),
    ("lfm2", ("<|tool_call_start|>",)),
    ("mistral", ("[TOOL_CALLS]",)),
    ("phi4_mini_json", ("<|tool_call|>", "<|tool|>")),
    ("granite", ("<|tool_call|>",)),
    ("llama4_pythonic", ("<|header_start|>", "<|python_start|>")),
    ("llama3_json", ("<|python_tag|>",)),
    ("llama3_json", ("<|start_header_id|>", '"parameters": dictionary')),
    ("glm45", ("<tool_call>", "<arg_key>")),
    ("qwen3_coder", ("<tool_call>", "<function=")),
    ("olmo3", ("<function_calls>",)),
    ("internlm", ("<|plugin|>",)),
    ("hunyuan_a13b", ("<tool_calls>", "<answer>")),
    ("jamba", ("<tool_calls>",)),
    (OWN_TOOL_PARSER, ("<tool_call>",)),
)
_REASONING_MARKS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("openai_gptoss", ("<|channel|>", "analysis")),
    ("seed_oss", ("<seed:think>",)),
    ("mistral", ("[THINK]",)),
    ("minimax_m2", ("<minimax:tool_call>", "<think>")),
    ("kimi_k2", ("<|tool_calls_section_begin|>", "<think>")),
    ("hunyuan_a13b", ("<think>", "<answer>")),
    ("deepseek_v3", ("<｜Assistant｜>", "thinking")),
    ("deepseek_r1", ("<｜Assistant｜>", "</think>")),
    ("glm45", ("<think>", "<arg_key>")),
    ("qwen3", ("enable_thinking", "</think>")),
    ("granite", ("Here is my thought process",)),
    ("olmo3", ("<think>", "<function_calls>")),
    ("deepseek_r1", ("<think>", "</think>")),
)


@dataclass(frozen=True, kw_only=True)
class Parsers:
    """Names of vLLM's parsers. `tool` is None where Hermes' form is read here; `reasoning` where none is written."""

    tool: str | None = None
    reasoning: str | None = None


def parsers_for(template: str, *, tool: str | None = None, reasoning: str | None = None) -> Parsers:
    """Those of the template's family, but those that are named; `none` for reasoning turns it off."""
    tool = tool or _first(_TOOL_MARKS, template) or OWN_TOOL_PARSER
    reasoning = reasoning or _first(_REASONING_MARKS, template)
    return Parsers(
        tool=None if tool == OWN_TOOL_PARSER else tool,
        reasoning=None if reasoning == "none" else reasoning,
    )


def _first(rows: Sequence[tuple[str, tuple[str, ...]]], template: str) -> str | None:
    return next((name for name, marks in rows if all(mark in template for mark in marks)), None)
