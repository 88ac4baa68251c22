"""Where a program's templates stand: before its demonstrations and after them; how one is written, and ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graft.server.prompting.program.checks import MAX_STOP_CHARACTERS
from graft.server.prompting.program.program import (
    DEMONSTRATIONS,
    Demonstration,
    Placeholder,
    PromptProgram,
    PromptType,
    TemplateFormat,
    Turn,
)
from graft.server.prompting.rendering import mustache

_JINJA_PLACE = re.compile(rf"\{{\{{\s*{DEMONSTRATIONS}\s*\}}\}}")
# Their answers are written as demonstrations with rationales are; other ways reason as no demonstration shows.
_AS_DEMONSTRATED = frozenset({"chain_of_thought", "program_of_thought"})
_JINJA_TAG = re.compile(r"\{[{%#]")
_OUTPUT, _WITH_RATIONALE = "{{output}}", "{{rationale}}\n{{output}}"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template, where it stands in the program's JSON, and whose turn it is in a chat."""

    field: str
    text: str
    role: str | None = None


Part = Template | Placeholder


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A prompt cut at the place of its demonstrations. `question` and `place` are None where there is none of it."""

    before: tuple[Part, ...]
    after: tuple[Part, ...]
    question: Template | None
    has_place: bool

    def parts(self) -> Iterator[Part]:
        yield from self.before
        yield from self.after


def layout_of(program: PromptProgram) -> Layout:
    """A program's layout. Texts are cut at `{{demonstrations}}`; a line's end right behind it belongs to it."""
    if program.type is PromptType.TEXT:
        return _of_text(program)
    return _of_chat(program)


def answer_template(program: PromptProgram, demonstration: Demonstration) -> str:
    """What a demonstration's answer is written by."""
    if program.demonstrating.answer is not None:
        return program.demonstrating.answer
    reasons = program.reasoning.method != "direct" and demonstration.rationale is not None
    return _WITH_RATIONALE if reasons else _OUTPUT


def _of_text(program: PromptProgram) -> Layout:
    template = str(program.prompt)
    place = _place(template, program.template_format)
    begin, end = (0, 0) if place is None else place
    if place is not None and template.startswith("\n", end):
        end += 1
    before, after = (Template(field="program.prompt", text=text) for text in (template[:begin], template[end:]))
    return Layout(
        before=(before,) if before.text else (),
        after=(after,),
        question=_question(program, after),
        has_place=place is not None,
    )


def _place(template: str, form: TemplateFormat) -> tuple[int, int] | None:
    """Where the first `{{demonstrations}}` begins and ends."""
    if form is TemplateFormat.JINJA2:
        found = _JINJA_PLACE.search(template)
        return None if found is None else found.span()
    for part in mustache.parse(template).parts:
        if isinstance(part, mustache.Variable) and part.name == DEMONSTRATIONS:
            return part.begin, part.end
    return None


def _of_chat(program: PromptProgram) -> Layout:
    parts = [_part(one, f"program.prompt[{index}]") for index, one in enumerate(program.prompt)]
    users = [index for index, one in enumerate(parts) if isinstance(one, Template) and one.role == "user"]
    places = [index for index, one in enumerate(parts) if isinstance(one, Placeholder) and one.name == DEMONSTRATIONS]
    cut = places[0] if places else users[-1] if users else len(parts)
    last = parts[users[-1]] if users else None
    return Layout(
        before=tuple(parts[:cut]),
        after=tuple(parts[cut + 1 if places else cut :]),
        question=_question(program, last if isinstance(last, Template) else None),
        has_place=bool(places or users),
    )


def _part(one: Turn | Placeholder | str, field: str) -> Part:
    if isinstance(one, Turn):
        return Template(field=f"{field}.content", text=one.content, role=one.role)
    assert isinstance(one, Placeholder)
    return one


def _question(program: PromptProgram, default: Template | None) -> Template | None:
    given = program.demonstrating.prompt
    return default if given is None else Template(field="program.demonstrating.prompt", text=given)


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
