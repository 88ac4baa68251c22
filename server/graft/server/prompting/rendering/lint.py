"""What is wrong with a program's templates before anybody runs it, and what its author should know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graft.server.errors import BadInput
from graft.server.prompting.program.program import (
    DEMONSTRATIONS,
    SOURCES,
    Calibration,
    Placeholder,
    PromptProgram,
    PromptType,
    TemplateFormat,
)
from graft.server.prompting.rendering import mustache
from graft.server.prompting.rendering.languages import Templates
from graft.server.prompting.rendering.layout import Layout, Template, answer_template, default_stop, layout_of
from graft.server.prompting.rendering.templates import Reading
from graft.server.prompting.rendering.writing import check_names, draft, variables_of
from graft.server.runtime.violations import Violations

_MAX_NOTICES = 32
_GIVEN_HERE = frozenset({"output", "rationale"})
_PLACE = f"`{{{{{DEMONSTRATIONS}}}}}`"


async def lint(program: PromptProgram, templates: Templates) -> tuple[str, ...]:
    """Notices for the author. Raises `BadInput` with all that keeps the program from being run."""
    violations = Violations()
    layout = layout_of(program)
    readings = await _readings(program, layout, templates)
    for template, reading in readings:
        for fault in violations.until_full(reading.faults):
            violations.add(template.field, fault)
    violations.raise_any()
    _check_places(program, layout, readings, violations)
    violations.raise_any()
    await _check_tests(program, templates, violations)
    await _check_demonstrations(program, layout, templates, violations)
    violations.raise_any()
    return tuple(dict.fromkeys(_notices(program, layout, readings)))[:_MAX_NOTICES]


async def _readings(program: PromptProgram, layout: Layout, templates: Templates) -> list[tuple[Template, Reading]]:
    found = [part for part in layout.parts() if isinstance(part, Template)]
    if program.demonstrating.prompt is not None and layout.question is not None:
        found.append(layout.question)
    if program.demonstrating.answer is not None:
        found.append(Template(field="program.demonstrating.answer", text=program.demonstrating.answer))
    if program.sourcing is not None and program.sourcing.query is not None:
        found.append(Template(field="program.sourcing.query", text=program.sourcing.query))
    said = await templates.read(program.template_format, [one.text for one in found])
    return list(zip(found, said, strict=True))


def _check_places(
    program: PromptProgram, layout: Layout, readings: Sequence[tuple[Template, Reading]], violations: Violations
) -> None:
    """Demonstrations and sources have one place each, where they are asked for."""
    shows = bool(program.demonstrations) and program.mode != "zero_shot"
    if shows and not layout.has_place:
        if program.type is PromptType.TEXT:
            violations.add("program.prompt", f"has no place for its demonstrations: write {_PLACE} where they stand")
        else:
            remedy = 'add one, or {"type": "placeholder", "name": "demonstrations"} where they stand'
            violations.add(
                "program.prompt", f"has no user turn, before the last of which demonstrations stand: {remedy}"
            )
    if shows and layout.question is None:
        violations.add("program.demonstrating.prompt", "is missing: no user turn says how a question is written")
    for template, reading in readings:
        if DEMONSTRATIONS in reading.variables:
            violations.add(template.field, _second_place(program))
    placeholders = [part.name for part in layout.parts() if isinstance(part, Placeholder)]
    if DEMONSTRATIONS in placeholders:
        violations.add("program.prompt", "has two places for demonstrations: leave one")
    reads = {name for _, reading in readings for name in reading.variables}
    if program.sourcing is not None and SOURCES not in reads:
        violations.add(
            "program.prompt", f"has no place for its sources: write `{{{{{SOURCES}}}}}` where passages stand"
        )


def _second_place(program: PromptProgram) -> str:
    if program.type is PromptType.CHAT:
        return (
            f"holds {_PLACE}; in a chat they are turns: put "
            '{"type": "placeholder", "name": "demonstrations"} between two turns'
        )
    if program.template_format is TemplateFormat.JINJA2:
        return (
            f"reads `demonstrations` elsewhere than in {_PLACE}, which stands once and outside of all blocks: what "
            "comes before it and what comes behind it are templates of their own"
        )
    return f"holds {_PLACE} twice: leave one"


async def _check_tests(program: PromptProgram, templates: Templates, violations: Violations) -> None:
    """Their variables are the program's; where `{{…}}` is all there is, none may be missing."""
    names = await variables_of(program, templates)
    needs_all = program.template_format is TemplateFormat.MUSTACHE
    for index, test in violations.until_full(enumerate(program.tests)):
        field = f"program.tests[{index}].variables"
        try:
            check_names(test.variables, names, field=field)
        except BadInput as error:
            for one in error.violations:
                violations.add(one.field, one.problem)
        for name in names if needs_all else ():
            if name not in test.variables:
                violations.add(f"{field}.{name}", "is missing: the prompt reads it")


async def _check_demonstrations(
    program: PromptProgram, layout: Layout, templates: Templates, violations: Violations
) -> None:
    """Each can be written, and gives no value that nothing reads."""
    if layout.question is None or not program.demonstrations:
        return
    known = await _read_of_demonstrations(program, layout, templates)
    for index, one in violations.until_full(enumerate(program.demonstrations)):
        for name in one.inputs:
            if name not in known:
                remedy = f"it reads {', '.join(sorted(known)[:20])}" if known else "it reads none"
                problem = f"is no variable of a demonstration's question (`{layout.question.field}`): {remedy}"
                violations.add(f"program.demonstrations[{index}].inputs.{name[:80]}", problem)
    try:
        await draft(_without_variables(program), {}, range(len(program.demonstrations)), templates)
    except BadInput as error:
        for violation in error.violations:
            violations.add(violation.field, violation.problem)


async def _read_of_demonstrations(program: PromptProgram, layout: Layout, templates: Templates) -> set[str]:
    assert layout.question is not None
    texts = dict.fromkeys(answer_template(program, one) for one in program.demonstrations)
    readings = await templates.read(program.template_format, [layout.question.text, *texts])
    known = {name for reading in readings for name in reading.variables}
    return known - _GIVEN_HERE if _GIVEN_HERE.isdisjoint(readings[0].variables) else known


def _without_variables(program: PromptProgram) -> PromptProgram:
    """The same demonstrations in a prompt that is nothing else."""
    question = layout_of(program).question
    assert question is not None
    how = program.demonstrating.model_copy(update={"prompt": question.text})
    return program.model_copy(
        update={"type": PromptType.TEXT, "prompt": _PLACE.strip("`"), "demonstrating": how, "sourcing": None}
    )


def _notices(program: PromptProgram, layout: Layout, readings: Sequence[tuple[Template, Reading]]) -> Iterator[str]:
    for template, reading in readings:
        for notice in reading.notices:
            yield f"{template.field}: {notice}"
    by_field: Mapping[str, Any] = {template.field: reading for template, reading in readings}
    answer = by_field.get("program.demonstrating.answer")
    if answer is not None and "output" not in answer.variables:
        yield "program.demonstrating.answer: does not read `{{output}}`, so demonstrations do not show what is right"
    yield from _of_demonstrations(program, layout, readings)
    if program.type is PromptType.TEXT and (last := _last_text(layout)) and last[-1].isspace():
        yield "program.prompt: ends in white space, which most tokenizers join to the word that would come next"
    yield from _of_endings(program)
    yield from _of_premise(program, layout)
    reads = {name for _, reading in readings for name in reading.variables}
    if program.sourcing is None and SOURCES in reads:
        yield "program.sourcing: is missing, so `{{sources}}` is a variable as any other"


def _of_demonstrations(
    program: PromptProgram, layout: Layout, readings: Sequence[tuple[Template, Reading]]
) -> Iterator[str]:
    if not program.demonstrations:
        if program.type is PromptType.TEXT and layout.has_place:
            yield "program.demonstrations: is empty, so nothing stands at `{{demonstrations}}`"
        return
    hides_rationales = program.demonstrating.answer is None and program.reasoning.method == "direct"
    if hides_rationales and any(one.rationale is not None for one in program.demonstrations):
        yield "program.demonstrations: their rationales are not shown, as program.reasoning.method is direct"
    before = [part for part in layout.before if isinstance(part, Template)]
    names = [name for template, reading in readings if template in before for name in reading.variables]
    given = {name for one in program.demonstrations for name in one.inputs}
    reads = (name for _, reading in readings for name in reading.variables)
    others = [name for name in reads if name not in given | _GIVEN_HERE]
    if program.choosing.order == "entropy" and others:
        yield (
            f"program.choosing.order: no demonstration gives `{{{{{others[0]}}}}}`, so an order is sought anew for "
            "each of its values"
        )
    if names and program.choosing.method == "fixed":
        yield (
            f"program.prompt: `{{{{{names[0]}}}}}` stands before the demonstrations, so each request's prefix is its "
            "own and the cache does not help: put it behind them"
        )


def _of_endings(program: PromptProgram) -> Iterator[str]:
    is_direct = program.reasoning.method == "direct"
    ends_itself = is_direct and program.output.type in ("choices", "json_schema")
    shows = bool(program.demonstrations) and program.mode != "zero_shot"
    if program.type is not PromptType.TEXT or not shows or ends_itself or program.decoding.stop is not None:
        return
    if default_stop(program, range(len(program.demonstrations))) is None:
        yield (
            "program.decoding.stop: is missing, and no words that questions begin with tell where an answer ends, so a "
            "model may go on with examples of its own: give it"
        )


def _of_premise(program: PromptProgram, layout: Layout) -> Iterator[str]:
    """By default the premise is the prompt's last line, whatever stands in it."""
    scoring = program.scoring
    if program.output.type != "choices" or scoring.calibration is not Calibration.PMI or scoring.premise is not None:
        return
    line = _last_text(layout).rstrip("\n").rpartition("\n")[2]
    is_jinja = program.template_format is TemplateFormat.JINJA2
    if ("{{" in line or "{%" in line) if is_jinja else mustache.parse(line).variables:
        yield (
            "program.scoring.premise: is missing, and the prompt's last line, which it is by default, holds a "
            "variable, so that what is asked is taken off the scores: give what precedes answers, such as `Answer:`"
        )


def _last_text(layout: Layout) -> str:
    last = layout.after[-1] if layout.after else None
    return last.text if isinstance(last, Template) else ""
