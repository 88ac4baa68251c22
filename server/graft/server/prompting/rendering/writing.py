"""A program, its variables and the demonstrations chosen for them become a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from graft.server.prompting.asking import Written, WrittenTurn
from graft.server.prompting.program.program import (
    DEMONSTRATIONS,
    SOURCES,
    Placeholder,
    PromptProgram,
    PromptType,
)
from graft.server.prompting.rendering.languages import Templates
from graft.server.prompting.rendering.layout import Layout, Part, Template, answer_template, layout_of
from graft.server.prompting.rendering.templates import Job
from graft.server.runtime.roles import role_problem, template_role
from graft.server.runtime.violations import Violations, shown

MAX_TURNS = 4096
_MAX_NAMED = 20

Mark = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class ControlTokens:
    """The names of control tokens in texts (see `Spelling`): those that the program writes count, those in its
    variables and demonstrations are text."""

    claimed: Mark = str
    """Of a template: its names are claimed for the program."""
    settled: Mark = str
    """Of what was rendered: claimed names are control tokens, all others are marked as text."""
    unmarked: Mark = str
    """Of a settled text: as people read it."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A prompt whose demonstrations stand apart, by index, so that any of them may be left out."""

    before: tuple[WrittenTurn, ...]
    demonstrations: Mapping[int, tuple[WrittenTurn, ...]]
    after: tuple[WrittenTurn, ...]
    is_text: bool
    controls: ControlTokens = ControlTokens()

    def turns(self, shown: Sequence[int]) -> tuple[WrittenTurn, ...]:
        """The parts of the prompt with these demonstrations, in this order; a text's have the role `text`."""
        return (*self.before, *(turn for index in shown for turn in self.demonstrations[index]), *self.after)

    def shown(self, text: str) -> str:
        """A part's text as people read it."""
        return self.controls.unmarked(self.controls.settled(text)) if self.is_text else text

    def written(self, shown: Sequence[int]) -> Written:
        """The prompt with these demonstrations, in this order."""
        turns = self.turns(shown)
        if not self.is_text:
            return Written(turns=turns)
        return Written(text=self.controls.settled("".join(turn.content for turn in turns)))

    def texts(self, index: int) -> tuple[str, ...]:
        """What a demonstration adds to the prompt."""
        return tuple(turn.content for turn in self.demonstrations[index])


async def draft(
    program: PromptProgram,
    variables: Mapping[str, Any],
    chosen: Sequence[int],
    templates: Templates,
    *,
    sources: str | None = None,
    controls: ControlTokens | None = None,
) -> Draft:
    """The prompt of a program with the demonstrations `chosen`, by index.

    `sources` stands at `{{sources}}`. Raises `BadInput` with every variable that is missing, unknown or unusable, and
    with the template that cannot be rendered.
    """
    controls = controls or ControlTokens()
    layout = layout_of(program)
    names = await variables_of(program, templates)
    check_names(variables, names)
    values = dict(variables)
    if sources is not None:
        values[SOURCES] = sources
    is_text = program.type is PromptType.TEXT
    claimed = controls.claimed if is_text else str
    jobs = [_job(part, values, claimed) for part in layout.parts() if isinstance(part, Template)]
    jobs += _demonstration_jobs(program, layout, chosen, claimed)
    texts = iter(await templates.render(program.template_format, jobs))
    violations = Violations()
    before, after = (
        tuple(turn for part in parts for turn in _turns(part, values, texts, violations))
        for parts in (layout.before, layout.after)
    )
    violations.raise_any()
    shown = {index: _demonstration(program, next(texts), next(texts), is_text) for index in chosen}
    return Draft(before=before, demonstrations=shown, after=after, is_text=is_text, controls=controls)


async def variables_of(program: PromptProgram, templates: Templates) -> tuple[str, ...]:
    """What a request gives values to, in the order in which the prompt reads them."""
    layout = layout_of(program)
    texts = [part.text for part in layout.parts() if isinstance(part, Template)]
    if program.sourcing is not None and program.sourcing.query is not None:
        texts.append(program.sourcing.query)
    readings = iter(await templates.read(program.template_format, texts))
    names: list[str] = []
    for part in layout.parts():
        names += [part.name] if isinstance(part, Placeholder) else next(readings).variables
    for reading in readings:
        names += reading.variables
    given_here = {DEMONSTRATIONS} | ({SOURCES} if program.sourcing is not None else set())
    return tuple(name for name in dict.fromkeys(names) if name not in given_here)


def check_names(variables: Mapping[str, Any], names: Sequence[str], *, field: str = "variables") -> None:
    """Raises `BadInput` with every variable that the program does not read."""
    violations = Violations()
    known = frozenset(names)
    for name in violations.until_full(variables):
        if name not in known:
            listed = ", ".join(islice(names, _MAX_NAMED)) + (", …" if len(names) > _MAX_NAMED else "")
            remedy = f"it reads {listed}" if names else "it reads none"
            violations.add(f"{field}.{name[:80]}", f"is no variable of this program: {remedy}")
    violations.raise_any()


def _job(template: Template, values: Mapping[str, Any], claimed: Mark) -> Job:
    return Job(field=template.field, template=claimed(template.text), values=values)


def _demonstration_jobs(program: PromptProgram, layout: Layout, chosen: Sequence[int], claimed: Mark) -> list[Job]:
    """Question and answer of each."""
    jobs = []
    for index in chosen:
        one, field = program.demonstrations[index], f"program.demonstrations[{index}]"
        assert layout.question is not None, "a program with demonstrations has a question: saving it checks"
        question = Job(
            field=field,
            template=claimed(layout.question.text),
            values=one.inputs,
            values_field=f"{field}.inputs",
        )
        answer = Job(
            field=field,
            template=claimed(answer_template(program, one)),
            values={
                **one.inputs,
                "output": one.output,
                **({} if one.rationale is None else {"rationale": one.rationale}),
            },
            values_field=field,
        )
        jobs += [question, answer]
    return jobs


def _demonstration(program: PromptProgram, question: str, answer: str, is_text: bool) -> tuple[WrittenTurn, ...]:
    how = program.demonstrating
    if is_text:
        return (WrittenTurn(role="text", content=f"{question}{how.before_answer}{answer}{how.separator}"),)
    return (WrittenTurn(role="user", content=question), WrittenTurn(role="assistant", content=answer))


def _turns(part: Part, values: Mapping[str, Any], texts: Any, violations: Violations) -> tuple[WrittenTurn, ...]:
    if isinstance(part, Template):
        role = "text" if part.role is None else template_role(part.role)
        return (WrittenTurn(role=role, content=next(texts)),)
    return turns_of(values.get(part.name), f"variables.{part.name}", violations)


def turns_of(value: Any, field: str, violations: Violations) -> tuple[WrittenTurn, ...]:
    """The turns that a placeholder's variable holds; usable only where no violation was added."""
    if not isinstance(value, list | tuple):
        problem = "is missing" if value is None else f"is {shown(value)}"
        violations.add(field, f"{problem}: it must be a list of turns, each an object with role and content")
        return ()
    if len(value) > MAX_TURNS:
        violations.add(field, f"has {len(value)} turns; the limit is {MAX_TURNS}")
        return ()
    turns = []
    for index, one in violations.until_full(enumerate(value)):
        place = f"{field}[{index}]"
        if not isinstance(one, Mapping) or not isinstance(one.get("content"), str) or set(one) - {"role", "content"}:
            violations.add(place, "must be an object with role and content, both text, and nothing else")
        elif wrong := role_problem(one.get("role")):
            violations.add(f"{place}.role", wrong)
        else:
            turns.append(WrittenTurn(role=template_role(str(one["role"])), content=one["content"]))
    return tuple(turns)
