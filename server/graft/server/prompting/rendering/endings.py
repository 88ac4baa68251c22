"""Where an answer ends after demonstrations: models go on with examples of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from graft.server.prompting.program.checks import MAX_STOP_CHARACTERS
from graft.server.prompting.program.program import Demonstration, PromptProgram, PromptType, TemplateFormat
from graft.server.prompting.rendering import mustache
from graft.server.prompting.rendering.layout import Layout, answer_template, layout_of

# Their answers are written as demonstrations with rationales are; other ways reason as no demonstration shows.
_AS_DEMONSTRATED = frozenset({"chain_of_thought", "program_of_thought"})
_JINJA_TAG = re.compile(r"\{[{%#]")


def default_stop(program: PromptProgram, shown: Sequence[int]) -> str | None:
    """What ends each stage of a text's answer where no `stop` is given and these demonstrations are shown.

    Their separator, where what is generated is written as the demonstrations' answers are, and none of these holds
    it. Else the separator with the words that a question begins with. None where neither tells an answer's end.
    """
    separator, method = program.demonstrating.separator, program.reasoning.method
    if program.type is not PromptType.TEXT or not (separator and shown):
        return None
    if method == "direct" and program.output.type == "json_schema":
        return None  # the grammar ends it, and may break lines
    ones = [program.demonstrations[index] for index in shown]
    has_rationales = any(one.rationale is not None for one in ones)
    candidates = [separator] if method == "direct" or (method in _AS_DEMONSTRATED and has_rationales) else []
    if beginning := _beginning(program, layout_of(program)):
        candidates.append(separator + beginning)
    answers = [_answer(program, one) for one in ones]
    for stop in (each[:MAX_STOP_CHARACTERS] for each in candidates):
        if not any(stop in answer for answer in answers):
            return stop
    return None


def _beginning(program: PromptProgram, layout: Layout) -> str:
    """What each question begins with, to the end of its first line that is not blank."""
    if layout.question is None:
        return ""
    text = layout.question.text
    if program.template_format is TemplateFormat.JINJA2:
        tag = _JINJA_TAG.search(text)
        literal = text[: tag.start()] if tag else text
    else:
        parts = mustache.parse(text).parts
        literal = parts[0] if parts and isinstance(parts[0], str) else ""
    words = literal.lstrip()
    blank = literal[: len(literal) - len(words)]
    line = words.partition("\n")[0].rstrip()
    return blank + line if line else ""


def _answer(program: PromptProgram, one: Demonstration) -> str:
    """Enough of a demonstration's answer, with what stands before it, to find in it what would end it."""
    template = answer_template(program, one)
    written = template.replace("{{rationale}}", one.rationale or "").replace("{{output}}", one.output)
    return "\0".join((program.demonstrating.before_answer + written, one.output, one.rationale or ""))
