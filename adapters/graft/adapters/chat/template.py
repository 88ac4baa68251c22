"""What a base's chat template reads: its variables, and what of tools it shows by itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import jinja2
import jinja2.meta
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from graft.adapters.chat.shown import TemplateReads

# transformers' own tags around what an assistant generated: they print what stands between them.
_GENERATION = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")
# What the request itself gives, and what transformers provides.
_GIVEN = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "processor_kwargs",
        "raise_exception",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "strftime_now",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)


def variables_of(template: str) -> frozenset[str]:
    """Names that a caller may set: read by the template, and given neither by the request nor by the tokenizer."""
    try:
        names = jinja2.meta.find_undeclared_variables(_environment().parse(_GENERATION.sub("", template)))
    except jinja2.TemplateError:
        return frozenset()  # rendering it will say what is wrong
    return callers_variables(names)


def callers_variables(names: Iterable[str]) -> frozenset[str]:
    """Of the names that a template reads, those that neither the request nor the tokenizer gives."""
    return frozenset(name for name in names if name not in _GIVEN and not name.endswith("_token"))


def reads_of(template: str) -> TemplateReads:
    """What of tools a template shows: which names and attributes stand in it."""
    try:
        tree = _environment().parse(_GENERATION.sub("", template))
    except jinja2.TemplateError:
        return TemplateReads()
    words = {node.value for node in tree.find_all(jinja2.nodes.Const)}
    words |= {node.attr for node in tree.find_all(jinja2.nodes.Getattr)}
    return shown_of({node.name for node in tree.find_all(jinja2.nodes.Name)}, words)


def shown_of(names: Collection[str], words: Collection[object]) -> TemplateReads:
    """What of tools a template shows that reads these names, and in which these words and attributes stand."""
    return TemplateReads(tools="tools" in names, calls="tool_calls" in words, results="tool" in words)


def fault_of(template: str) -> str | None:
    """The place and the reason where no chat at all can be rendered with it, else None."""
    try:
        _environment().from_string(_GENERATION.sub("", template))
    except jinja2.TemplateSyntaxError as error:
        return f"line {error.lineno}: {error.message}"
    return None


def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
