r"""Templates in which `{{name}}` stands for a variable's value, and everything else for itself.

`\{{` is two braces that are text, `\\{{` a backslash before a variable. What a value holds is never read again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from graft.server.prompting.rendering.templates import (
    MAX_RENDERED_CHARACTERS,
    Job,
    Reading,
    too_long,
    value_problem,
    value_text,
)
from graft.server.runtime.violations import MAX_VIOLATIONS, Violations, shown

_OPENING = re.compile(r"(\\{0,2})\{\{(\{?)")
_NAME = re.compile(r"[^\W\d][\w-]{0,127}")
# What other languages mean by a tag's first character.
_OTHER_TAGS = {
    "#": "a section; sections are not read: take template_format jinja2",
    "^": "a section; sections are not read: take template_format jinja2",
    "/": "a section's end; sections are not read: take template_format jinja2",
    ">": "a partial; partials are not read: write the text itself",
    "!": "a comment; comments are not read: take it out",
    "=": "a change of delimiters, which is not read: take it out",
    "&": "unescaped output; no value is escaped: write the name alone",
}
_SINGLE = re.compile(r"(?<!\{)\{([^\W\d]\w{0,63})\}(?!\})")
_JINJA = re.compile(r"\{%[-+]?\s*(for|if|set|macro|block)\b")
_NUM_CACHED = 256
_NUM_CACHED_LARGE = 8
_CACHED_CHARACTERS = 65_536
_MAX_PLACES = 10_000


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A place in a template, from `begin` to `end`, and the name of what stands there."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Mustache:
    """A template that was read: texts and variables in their order, and what could not be read."""

    parts: tuple[str | Variable, ...]
    faults: tuple[str, ...] = ()

    @property
    def variables(self) -> tuple[str, ...]:
        """Names in the order of their first use."""
        return tuple(dict.fromkeys(part.name for part in self.parts if isinstance(part, Variable)))


def parse(template: str) -> Mustache:
    """Read a template, in time that is linear in its length."""
    return _cached(template) if len(template) <= _CACHED_CHARACTERS else _cached_large(template)


def reading(template: str) -> Reading:
    """What the template reads, and what its author should know."""
    parsed = parse(template)
    return Reading(variables=parsed.variables, faults=parsed.faults, notices=tuple(_notices(parsed)))


def render_all(jobs: Sequence[Job]) -> list[str]:
    """Texts of all jobs. Raises `BadInput` for templates that cannot be read, and for values that are missing or none
    of text, number, true and false."""
    violations = Violations()
    room = MAX_RENDERED_CHARACTERS
    made = []
    for job in jobs:
        parsed = parse(job.template)
        for fault in parsed.faults:
            violations.add(job.field, fault)
        values = _texts(parsed, job, violations)
        room -= sum(len(part) if isinstance(part, str) else len(values.get(part.name, "")) for part in parsed.parts)
        if room < 0:
            raise too_long(job.field, MAX_RENDERED_CHARACTERS - room)
        made.append("".join(part if isinstance(part, str) else values.get(part.name, "") for part in parsed.parts))
    violations.raise_any()
    return made


def _texts(parsed: Mustache, job: Job, violations: Violations) -> dict[str, str]:
    values: dict[str, str] = {}
    for name in violations.until_full(parsed.variables):
        field = f"{job.values_field}.{name}"
        if name not in job.values:
            violations.add(field, "is missing: the template reads it")
        elif (text := value_text(job.values[name])) is None:
            violations.add(field, value_problem(job.values[name]))
        else:
            values[name] = text
    return values


@lru_cache(maxsize=_NUM_CACHED)
def _cached(template: str) -> Mustache:
    return _parse(template)


@lru_cache(maxsize=_NUM_CACHED_LARGE)
def _cached_large(template: str) -> Mustache:
    return _parse(template)


def _parse(template: str) -> Mustache:
    parts: list[str | Variable] = []
    faults: list[str] = []
    at = 0
    while opening := _OPENING.search(template, at):
        backslashes = opening[1]
        if backslashes == "\\":
            parts.append(template[at : opening.start()] + "{{")
            at = opening.start() + 3
            continue
        parts.append(template[at : opening.start()] + backslashes[:1])
        end = template.find("}}", opening.end())
        if end < 0:
            faults.append(_unclosed(template, opening.start()))
            break
        inside = template[opening.end() : end]
        at = end + 2
        if (fault := _fault(inside, triple=bool(opening[2]))) is None:
            parts.append(Variable(name=inside.strip(), begin=opening.start() + len(backslashes), end=at))
        else:
            faults.append(f"{_place(template, opening.start())}: {fault}")
            if len(faults) > MAX_VIOLATIONS:
                break
        if len(parts) > 2 * _MAX_PLACES:
            faults.append(f"has more than {_MAX_PLACES} variables in it: shorten it")
            break
    parts.append(template[at:])
    return Mustache(parts=tuple(part for part in parts if part != ""), faults=tuple(faults))


def _fault(inside: str, *, triple: bool) -> str | None:
    """What is wrong with what stands between two braces and the next two."""
    name = inside.strip()
    if triple:
        return r"`{{{` is not read: write `{{name}}`, as no value is escaped, or `\{{` where braces are text"
    if "{{" in inside:
        return r"`{{` is not closed before the next: write `{{name}}`, or `\{{` where braces are text"
    if not name:
        return r"`{{}}` names nothing: write `{{name}}`, or `\{{` where braces are text"
    if name[0] in _OTHER_TAGS:
        return f"{shown(f'{{{{{name}}}}}')} is {_OTHER_TAGS[name[0]]}"
    if _NAME.fullmatch(name) is None:
        rule = "a variable's name has letters, digits, `_` and `-` and begins with a letter, at most 128"
        return f"{shown(name)} is no name ({rule}): mend it, or write `\\{{{{` where braces are text"
    return None


def _unclosed(template: str, at: int) -> str:
    return rf"{_place(template, at)}: `{{{{` is not closed by `}}}}`: close it, or write `\{{{{` where braces are text"


def _place(template: str, at: int) -> str:
    begin = template.rfind("\n", 0, at) + 1
    return f"line {template.count(chr(10), 0, at) + 1}, column {at - begin + 1}"


def _notices(parsed: Mustache) -> list[str]:
    """What is read as text and may have been meant otherwise."""
    texts = [part for part in parsed.parts if isinstance(part, str)]
    names = dict.fromkeys(found[1] for text in texts for found in islice(_SINGLE.finditer(text), MAX_VIOLATIONS))
    said = [f"`{{{name}}}` is text: a variable is written `{{{{{name}}}}}`" for name in islice(names, MAX_VIOLATIONS)]
    if any(_JINJA.search(text) for text in texts):
        said.append("`{% … %}` is text: say template_format jinja2 where it is meant")
    return said
